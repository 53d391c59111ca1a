// Keeps a page as it is now: asks for it again, and puts in what has changed.
const main = document.querySelector("main[data-refresh]");

function replace(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (!other || other.innerHTML === part.innerHTML) continue;
    const focused = part.contains(document.activeElement) && document.activeElement.getAttribute("href");
    part.replaceChildren(...other.childNodes);
    if (focused) part.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  }
  document.title = fresh.title;
}

async function refresh() {
  let seconds = Number(main.dataset.refresh);
  try {
    if (!document.hidden) {
      const address = new URL(location.href);
      address.searchParams.set("live", "1");
      const answer = await fetch(address, { cache: "no-store" });
      if (answer.status === 401) return location.reload();
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        replace(fresh);
        seconds = Number(fresh.querySelector("main").dataset.refresh);
      }
    }
  } catch {
    // the server may be away; the page stays as it is, and asks again
    seconds = 10;
  }
  if (seconds) setTimeout(refresh, 1000 * seconds);
}

if (main) setTimeout(refresh, 1000 * Number(main.dataset.refresh));
