"""Pictures and pages by which people judge a registration."""
