// Requests to the server of this page, and to no other.
import { url } from "../router";
import type { Session } from "./contract";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export type Params = Record<string, string | number | null | undefined>;

let csrf = "";
let signedOut: () => void = () => undefined;

/** What happens when the server no longer knows this browser. */
export function onSignedOut(act: () => void): void {
  signedOut = act;
}

export function address(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  return url(path) + (text ? `?${text}` : "");
}

async function answer<T>(response: Response): Promise<T> {
  const text = await response.text();
  let body: unknown = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = null; // a proxy in between answered with a page of its own
  }
  if (response.ok) return body as T;
  if (response.status === 401) signedOut();
  const said = body && typeof body === "object" && "error" in body ? String(body.error) : "";
  throw new ApiError(response.status, said || `the server answered ${response.status} ${response.statusText}`.trim());
}

async function send(where: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(where, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "the dashboard's server cannot be reached");
  }
}

export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  return answer<T>(await send(address(path, params), { headers: { Accept: "application/json" }, signal: signal ?? null }));
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  const headers = { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": csrf };
  return answer<T>(await send(url(path), { method: "POST", headers, body: JSON.stringify(body) }));
}

export async function openSession(): Promise<Session> {
  const session = await get<Session>("/api/session");
  csrf = session.csrf;
  return session;
}

/** Why the server does not answer with a stream; empty when it would. A browser tells a page nothing about that. */
export async function refusal(path: string, params: Params, signal: AbortSignal): Promise<string> {
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort());
  try {
    const response = await send(address(path, params), { headers: { Accept: "text/event-stream" }, signal: stop.signal });
    if (!response.ok) await answer<unknown>(response);
    return "";
  } catch (error) {
    return error instanceof ApiError && error.status ? error.message : "";
  } finally {
    stop.abort();
  }
}

export function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
