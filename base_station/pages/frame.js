// What the frame does in the browser: says that the connection is lost, keeps the reader's choices, dresses charts.
(() => {
  const lost = document.getElementById("lost");
  const popup = () => document.getElementById("popup");
  let since = null;

  function tell() {
    const gone = popup()?.ariaHidden === "false" || !navigator.onLine && !["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    if (gone && since === null) {
      since = new Date();
      const time = since.toTimeString().slice(0, 8);
      lost.textContent = lost.dataset.text.replace("{time}", time);
    }
    if (!gone) since = null;
    lost.hidden = !gone;
    document.body.classList.toggle("is-lost", gone);
  }

  function watch() {
    new MutationObserver(tell).observe(popup(), { attributes: true });
    addEventListener("offline", tell);
    addEventListener("online", tell);
    tell();
  }

  document.addEventListener("change", (event) => {
    const cookie = event.target.dataset?.cookie;
    if (!cookie) return;
    document.cookie = `${cookie}=${encodeURIComponent(event.target.value)}; path=/; max-age=31536000; samesite=lax`;
    location.reload();
  });

  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  addEventListener("DOMContentLoaded", watch);
})();
