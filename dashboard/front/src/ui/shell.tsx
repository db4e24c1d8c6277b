// The frame of all pages: navigation, connection, search, theme, shortcuts.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { post } from "../api/client";
import type { Overview } from "../api/contract";
import { reconnect, useData, useLink } from "../api/live";
import { clock, coarse, count, visible } from "../format";
import { go, seg, usePlace } from "../router";
import { nextTheme, useSession, useTheme } from "../state";
import { A, useNow } from "./basics";
import { Modal } from "./dialog";

const PAGES = [
  ["/", "Overview", "o"],
  ["/tasks", "Tasks", "t"],
  ["/dead", "Dead letters", "d"],
  ["/schedules", "Schedules", "s"],
  ["/workers", "Workers", "w"],
  ["/keys", "Keys", "k"],
  ["/autoscaler", "Autoscaler", "a"],
  ["/audit", "Audit", "u"],
] as const;

const KEYS: [string, string][] = [
  ["/", "search on this page, or for a task by its id"],
  ...PAGES.map(([, name, key]): [string, string] => [`g ${key}`, name]),
  ["t", "theme: system, light, dark"],
  ["r", "connect again"],
  ["?", "this list"],
  ["Esc", "close, or leave a field"],
  ["← → Home End", "in a chart: another point in time"],
  ["← ↑ → ↓ Enter", "in a workflow: another task, and open it"],
];

function current(path: string, page: string): boolean {
  if (page === "/") return path === "/" || path.startsWith("/queues/");
  return path === page || path.startsWith(`${page}/`);
}

function Connection() {
  const link = useLink();
  const now = useNow();
  if (link.state === "live" && link.trouble) return <span class="link tone-bad" data-link="live" title={visible(link.trouble)}><span class="glyph" aria-hidden="true">!</span> No figures</span>;
  if (link.state === "live") return <span class="link tone-good" data-link="live"><span class="glyph" aria-hidden="true">●</span> Live</span>;
  if (link.state === "connecting") return <span class="link" data-link="connecting"><span class="glyph" aria-hidden="true">◌</span> Connecting</span>;
  return (
    <span class="link tone-bad" data-link="lost">
      <span class="glyph" aria-hidden="true">✕</span> Lost {coarse((now - link.since) / 1000)} ago
    </span>
  );
}

function LostBanner() {
  const link = useLink();
  const now = useNow();
  if (link.state !== "lost") return null;
  return (
    <div class="banner tone-bad" role="alert">
      <span>
        <b>No connection since {clock(new Date(link.since))}</b> ({coarse((now - link.since) / 1000)}). What you see is from then
        {link.reason ? `; the server said: ${visible(link.reason)}` : "; trying again"}.
      </span>
      <button type="button" onClick={reconnect}>
        Try now
      </button>
    </div>
  );
}

function Help({ onClose }: { onClose: () => void }) {
  return (
    <Modal title="Keyboard" onClose={onClose}>
      <dl class="keys">
        {KEYS.map(([key, text]) => (
          <div key={key}>
            <dt>{key.split(" ").map((each) => <kbd key={each}>{each}</kbd>)}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      <div class="modal-acts">
        <button type="button" class="primary" onClick={onClose}>
          Close
        </button>
      </div>
    </Modal>
  );
}

function useShortcuts(onHelp: () => void): void {
  useEffect(() => {
    let after = 0;
    const listener = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target as HTMLElement;
      const writing = target.matches("input, textarea, select, [contenteditable]");
      if (event.key === "Escape" && writing) return target.blur();
      if (writing || document.querySelector("dialog[open]")) return;
      const page = Date.now() - after < 1500 ? PAGES.find(([, , key]) => key === event.key) : undefined;
      after = 0;
      if (page) {
        event.preventDefault();
        go(page[0]);
      } else if (event.key === "g") after = Date.now();
      else if (event.key === "?") onHelp();
      else if (event.key === "t") nextTheme();
      else if (event.key === "r") reconnect();
      else if (event.key === "/") {
        const field = document.querySelector<HTMLInputElement>("main [data-search]") ?? document.querySelector<HTMLInputElement>("#jump");
        if (!field) return;
        event.preventDefault();
        field.focus();
        field.select();
      }
    };
    addEventListener("keydown", listener);
    return () => removeEventListener("keydown", listener);
  }, []);
}

export function Shell({ children }: { children: ComponentChildren }) {
  const session = useSession();
  const place = usePlace();
  const theme = useTheme();
  const [help, setHelp] = useState(false);
  const [menu, setMenu] = useState(false);
  useShortcuts(() => setHelp(true));
  useEffect(() => setMenu(false), [place.path]);
  // Every page watches the overview: so each knows whether it is connected, and how many dead letters there are.
  const { data: overview } = useData<Overview>("/api/overview", { limit: 1 }, "overview");
  const marks: Record<string, number> = { "/dead": overview?.totals.dead ?? 0 };

  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>
        Skip to the content
      </a>
      <header class="top">
        <button type="button" class="menu-button quiet" aria-expanded={menu} aria-controls="nav" onClick={() => setMenu(!menu)}>
          <span aria-hidden="true">☰</span> Menu
        </button>
        <A href="/" class="brand">
          Taskfleet
        </A>
        <span class="where mono" title="The Redis that this dashboard reads">{visible(session.redis)}</span>
        <form
          class="jump"
          role="search"
          aria-label="Open a task"
          onSubmit={(event) => {
            event.preventDefault();
            const field = event.currentTarget.elements.namedItem("id") as HTMLInputElement;
            const id = field.value.trim();
            if (id) go(/\s/.test(id) ? `/tasks?q=${seg(id)}` : `/tasks/${seg(id)}`);
            field.value = "";
          }}
        >
          <input id="jump" name="id" type="search" aria-label="Open a task by its id" placeholder="Task id" autocomplete="off" spellcheck={false} />
        </form>
        <Connection />
        <button type="button" class="quiet" data-theme-button onClick={nextTheme} title="Theme (t)">
          <span aria-hidden="true">{theme === "dark" ? "◑" : theme === "light" ? "○" : "◐"}</span>
          <span class="sr">Theme: {theme}</span>
        </button>
        <button type="button" class="quiet" onClick={() => setHelp(true)} title="Shortcuts (?)">
          <span aria-hidden="true">?</span>
          <span class="sr">Keyboard shortcuts</span>
        </button>
      </header>
      <nav class={menu ? "side open" : "side"} id="nav" aria-label="Dashboard">
        <ul>
          {PAGES.map(([path, name, key]) => (
            <li key={path}>
              <A href={path} aria-current={current(place.path, path) ? "page" : undefined}>
                <span>
                  {name}
                  {marks[path] ? <span class="mark">{count(marks[path])}</span> : null}
                </span>
                <kbd aria-hidden="true">g {key}</kbd>
              </A>
            </li>
          ))}
        </ul>
        <footer class="who">
          <p>
            {session.user ? visible(session.user) : "not logged in"}
            <br />
            <span class="faint">{session.may_change ? "may view and change" : "may view only"}</span>
          </p>
          {session.login && (
            <button type="button" class="quiet" onClick={() => void post("/api/logout").finally(() => location.reload())}>
              Log out
            </button>
          )}
          <p class="faint">Version {visible(session.version)}</p>
        </footer>
      </nav>
      <div class="page">
        <LostBanner />
        <main id="main" tabIndex={-1}>
          {children}
        </main>
      </div>
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}

export function PageHead({ title, sub, children }: { title: ComponentChildren; sub?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <header class="page-head">
      <div>
        <h1 tabIndex={-1}>{title}</h1>
        {sub && <p class="sub">{sub}</p>}
      </div>
      {children && <div class="page-acts">{children}</div>}
    </header>
  );
}
