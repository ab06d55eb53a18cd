// Keys of the review queue: each presses the button that names it.
(() => {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, select, textarea, .menu")) return;
    const key = event.key === " " ? "Space" : event.key;
    if (key === "Space") {
      if (event.target.closest?.("button, summary, a")) event.target.blur();
      event.preventDefault();
      const sound = document.querySelector(".judged.shown audio");
      if (sound?.getAttribute("src")) sound.paused ? sound.play().catch(() => {}) : sound.pause();
      return;
    }
    const button = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (button && !button.disabled && !event.repeat) {
      event.preventDefault();
      button.click();
    }
  });
})();
