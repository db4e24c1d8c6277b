// Live figures: one EventSource for all that the page shows. A lost connection says since when.
import { useEffect, useRef, useState } from "preact/hooks";
import { address, get, message, refusal, type Params } from "./client";

export type Link = { state: "connecting" | "live" | "lost"; since: number; lastEvent: number; reason: string; trouble: string };

type Listener = (data: unknown, error: string) => void;

const SILENCE_MS = 45_000; // a dead cable gives no error: after this time without any event, ask again
const HIDDEN_MS = 30_000; // a browser has six connections per server, and hidden tabs would hold them
const REFUSED_MS = 15_000;
const RETRY_MS = [1000, 2000, 4000, 8000, 15_000];

const topics = new Map<string, Set<Listener>>();
const watchers = new Set<() => void>();
let link: Link = { state: "connecting", since: Date.now(), lastEvent: 0, reason: "", trouble: "" };
let source: EventSource | null = null;
let opened = "";
let attempts = 0;
let scheduled = 0;
let hiding = 0;
let asking: AbortController | null = null;
let asleep = false;
let unsure = false;
let back: () => void = () => undefined;

/** What happens when the server is there again: it may be another one, with another Redis. */
export function onBack(act: () => void): void {
  back = act;
}

function tell(state: Link["state"]): void {
  if (link.state === state) return;
  // A loss is counted from the last sign of life, not from when it was noticed.
  link = { ...link, state, since: state !== "live" && link.lastEvent ? link.lastEvent : Date.now() };
  for (const watcher of [...watchers]) watcher();
}

function heard(): void {
  link.lastEvent = Date.now();
  attempts = 0;
  link.reason = "";
  tell("live");
  if (!unsure) return;
  unsure = false;
  back();
}

/** Whether the server has figures at all: it may be well, and its Redis gone. */
function troubled(trouble: string): void {
  if (link.trouble === trouble) return;
  link = { ...link, trouble };
  for (const watcher of [...watchers]) watcher();
}

function close(): void {
  source?.close();
  source = null;
}

function later(delay: number): void {
  clearTimeout(scheduled);
  scheduled = window.setTimeout(connect, delay);
}

function lost(): void {
  unsure = true;
  close();
  tell("lost");
  later(RETRY_MS[Math.min(attempts++, RETRY_MS.length - 1)]!);
  // A session that has ended leads to the login, and what the server says is said here, too.
  const mine = new AbortController();
  asking?.abort();
  asking = mine;
  void refusal("/api/events", { topics: opened }, mine.signal).then((reason) => {
    if (mine.signal.aborted || link.state !== "lost" || link.reason === reason) return;
    link = { ...link, reason };
    for (const watcher of [...watchers]) watcher();
  });
}

/** The data of an event; null for one that was cut off: the next has everything again. */
function parsed(event: Event): unknown {
  try {
    return JSON.parse((event as MessageEvent<string>).data);
  } catch {
    return null;
  }
}

function connect(): void {
  close();
  if (asleep) return;
  opened = [...topics.keys()].sort().join(",");
  if (!opened) return;
  const mine = new EventSource(address("/api/events", { topics: opened }));
  source = mine;
  mine.onopen = heard;
  mine.onerror = () => {
    if (source === mine) lost();
  };
  // The server ends a stream now and then, and says why. That is no loss while a new one can be had.
  mine.addEventListener("end", (event) => {
    const said = parsed(event) as { reason?: string } | null;
    link.reason = said?.reason ?? "";
    unsure = true;
    close();
    later(RETRY_MS[0]!);
  });
  // There was no room for a topic, as its own event says: there may be some later.
  mine.addEventListener("refused", () => {
    heard();
    later(REFUSED_MS);
  });
  for (const topic of topics.keys()) {
    mine.addEventListener(topic, (event) => {
      heard();
      if (topic === "overview") troubled("");
      const data = parsed(event);
      if (data !== null) for (const listener of [...(topics.get(topic) ?? [])]) listener(data, "");
    });
    mine.addEventListener(`error:${topic}`, (event) => {
      heard();
      const said = parsed(event) as { error?: string } | null;
      if (topic === "overview") troubled(said?.error ?? "the figures cannot be read now");
      for (const listener of [...(topics.get(topic) ?? [])]) listener(null, said?.error ?? "the figures cannot be read now");
    });
  }
}

function changed(): void {
  if ([...topics.keys()].sort().join(",") !== opened || !source) later(link.state === "lost" ? 500 : 30);
}

window.setInterval(() => {
  if (source && link.state === "live" && Date.now() - link.lastEvent > SILENCE_MS) connect();
}, 5000);

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = window.setTimeout(() => {
      asleep = true; // also for what would connect later
      close();
    }, HIDDEN_MS);
    return;
  }
  asleep = false;
  if (!source) {
    unsure = true;
    later(0);
  }
});
window.addEventListener("online", () => link.state === "lost" && later(0));

export function reconnect(): void {
  attempts = 0;
  later(0);
}

export function subscribe(topic: string, listener: Listener): () => void {
  const listeners = topics.get(topic) ?? new Set();
  topics.set(topic, listeners.add(listener));
  changed();
  return () => {
    listeners.delete(listener);
    if (!listeners.size && topics.get(topic) === listeners) topics.delete(topic);
    changed();
  };
}

export function useLink(): Link {
  const [, again] = useState(0);
  useEffect(() => {
    const watcher = () => again((n) => n + 1);
    watchers.add(watcher);
    return () => void watchers.delete(watcher);
  }, []);
  return link;
}

export interface Loaded<T> {
  data: T | null;
  error: string;
  loading: boolean;
  reload: () => void;
}

/**
 * The body of a GET, kept up to date.
 *
 * With a topic, each of its events replaces the body. `refetch` asks the server again at each event instead, for views
 * that have parameters of their own; at most every two seconds.
 */
export function useData<T>(path: string | null, params: Params = {}, topic = "", refetch = false): Loaded<T> {
  const [state, set] = useState<{ key: string; data: T | null; error: string }>({ key: "", data: null, error: "" });
  const [round, setRound] = useState(0);
  const key = path === null ? "" : address(path, params);
  const asked = useRef(0);
  const told = useRef(0);

  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    asked.current = Date.now();
    const before = told.current;
    // An event that came meanwhile may be newer than the answer, and is not sent again before something changes.
    const late = () => stop.signal.aborted || told.current !== before;
    get<T>(path, params, stop.signal).then(
      (data) => {
        if (!late()) set({ key, data, error: "" });
      },
      (error: unknown) => {
        if (!late()) set((old) => ({ key, data: old.key === key ? old.data : null, error: message(error) }));
      },
    );
    return () => stop.abort();
  }, [key, round]);

  useEffect(() => {
    if (!topic || path === null) return;
    let timer = 0;
    const stop = subscribe(topic, (data, problem) => {
      // What was read before stays on the page, with the reason why it is not renewed.
      if (problem) return set((old) => ({ key, data: old.key === key ? old.data : null, error: problem }));
      if (!refetch) {
        told.current++;
        return set({ key, data: data as T, error: "" });
      }
      clearTimeout(timer);
      timer = window.setTimeout(() => setRound((n) => n + 1), Math.max(0, asked.current + 2000 - Date.now()));
    });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [topic, key, refetch]);

  const mine = state.key === key;
  return {
    data: mine ? state.data : null,
    error: mine ? state.error : "",
    loading: path !== null && (!mine || (!state.data && !state.error)),
    reload: () => setRound((n) => n + 1),
  };
}
