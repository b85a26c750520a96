"""What people look at: pages and pictures of a pair."""
