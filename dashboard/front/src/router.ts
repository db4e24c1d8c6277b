// Client-side routes below the place where the dashboard is mounted, which `<base>` names.
import { useLayoutEffect, useState } from "preact/hooks";

const base = new URL(document.baseURI).pathname.replace(/\/$/, "");

export interface Place {
  path: string;
  query: URLSearchParams;
}

const listeners = new Set<() => void>();

/** The address of a page or of the API, with the mount in front. */
export function url(path: string): string {
  return base + path;
}

export function here(): Place {
  const path = location.pathname.startsWith(base) ? location.pathname.slice(base.length) : location.pathname;
  return { path: path.replace(/\/+$/, "") || "/", query: new URLSearchParams(location.search) };
}

export function go(to: string, { replace = false } = {}): void {
  if (replace) history.replaceState(null, "", url(to));
  else history.pushState(null, "", url(to));
  for (const listener of [...listeners]) listener();
}

/** Change parameters of the address in place; empty ones disappear. */
export function setQuery(changes: Record<string, string | null>): void {
  const { path, query } = here();
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  go(path + (text ? `?${text}` : ""), { replace: true });
}

export function usePlace(): Place {
  const [place, set] = useState(here);
  // Before the page is painted: who goes back at once is followed, too.
  useLayoutEffect(() => {
    const listener = () => set(here());
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return place;
}

/** Plain clicks on links of the dashboard stay in this page; all others are the browser's. */
export function followLinks(): void {
  addEventListener("popstate", () => {
    for (const listener of [...listeners]) listener();
  });
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.origin !== location.origin || link.hasAttribute("download")) return;
    const raw = link.getAttribute("href") ?? "";
    if (raw.startsWith("#") || link.dataset.plain !== undefined) return;
    if (!link.pathname.startsWith(base + "/") && link.pathname !== base) return;
    event.preventDefault();
    go(link.pathname.slice(base.length) + link.search);
  });
}

export const seg = encodeURIComponent;
