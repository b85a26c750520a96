
// Buttons that copy what stands below them, as a matrix.

for (const button of document.querySelectorAll("button.copy")) {
  const shown = button.parentElement.parentElement.querySelector("pre");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(shown.textContent);
    } catch { // in a frame of a notebook
      getSelection().selectAllChildren(shown);
      document.execCommand("copy");
    }
    button.textContent = $("spoken").textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}
