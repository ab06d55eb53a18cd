// Sharing an incident: by the device's own sheet where it has one, else to the clipboard, else as text to be selected.
(() => {
  document.addEventListener("click", async (event) => {
    const press = event.target.closest?.("[data-share]");
    if (!press) return;
    const box = document.getElementById(press.dataset.share);
    const area = box.querySelector("textarea");
    const message = `${area.value}\n${location.origin}${location.pathname}`;
    const said = box.parentElement.querySelector(".shared-how");
    said.textContent = "";
    if (navigator.share) {
      try {
        await navigator.share({ text: message });
        return;
      } catch (error) {
        if (error.name === "AbortError") return;  // he thought better of it
      }
    }
    try {
      await navigator.clipboard.writeText(message);
      said.textContent = press.dataset.copied;
    } catch {
      area.value = message;
      box.classList.add("open");
      area.focus();
      area.select();
    }
  });
})();
