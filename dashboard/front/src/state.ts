// What all pages share: who looks, and the theme.
import { createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";
import type { Session } from "./api/contract";
import { visible } from "./format";

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error("a page was drawn without a session");
  return session;
}

export type Theme = "system" | "light" | "dark";

const KEY = "taskfleet-theme";

let chosen: Theme = "system"; // what holds for this page where storage is forbidden

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return chosen;
  }
}

export function applyTheme(theme: Theme = stored()): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

const themed = new Set<() => void>();

export function nextTheme(): void {
  const order: Theme[] = ["system", "light", "dark"];
  const theme = order[(order.indexOf(stored()) + 1) % order.length]!;
  chosen = theme;
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // The choice holds for this page all the same.
  }
  applyTheme(theme);
  for (const each of themed) each();
}

export function useTheme(): Theme {
  const [theme, set] = useState(stored);
  useEffect(() => {
    const listener = () => set(stored());
    themed.add(listener);
    return () => void themed.delete(listener);
  }, []);
  return theme;
}

/** The title of the browser's tab. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${visible(title)} · Taskfleet`;
  }, [title]);
}
