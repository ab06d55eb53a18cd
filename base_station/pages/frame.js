// What the frame does in the browser: says that the connection is lost, and keeps the reader's choices.
(() => {
  const lost = document.getElementById("lost");
  const popup = () => document.getElementById("popup");
  // the station writes its time every second; where nothing comes for so long, the link is gone, whatever it says
  const SILENT_MS = 7000;
  const isHere = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  let since = null;
  let heard = Date.now();

  function tell() {
    const silent = document.visibilityState === "visible" && Date.now() - heard > SILENT_MS;
    const gone = silent || popup()?.ariaHidden === "false" || (!navigator.onLine && !isHere);
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
    new MutationObserver((changes) => {
      if (!changes.some((change) => (change.target.closest ? change.target : change.target.parentElement)?.closest(".clock"))) return;
      heard = Date.now();
      tell();
    }).observe(document.getElementById("app"), { characterData: true, childList: true, subtree: true });
    document.addEventListener("visibilitychange", () => {
      heard = Date.now();  // a page that nobody saw was held up by the browser, not by the link
    });
    setInterval(tell, 1000);
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
