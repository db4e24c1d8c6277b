// The entry: session first, then the page of the address.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, message, onSignedOut, openSession } from "./api/client";
import { onBack } from "./api/live";
import type { Session } from "./api/contract";
import { Audit } from "./pages/audit";
import { AutoscalerList, AutoscalerPage } from "./pages/autoscaler";
import { Dead } from "./pages/dead";
import { Keys } from "./pages/keys";
import { Login } from "./pages/login";
import { Overview } from "./pages/overview";
import { Queue } from "./pages/queue";
import { Schedules } from "./pages/schedules";
import { Task } from "./pages/task";
import { Tasks } from "./pages/tasks";
import { Workers } from "./pages/workers";
import { followLinks, usePlace } from "./router";
import { SessionContext, applyTheme, useTitle } from "./state";
import { A, Loading, Trouble } from "./ui/basics";
import { Dialogs } from "./ui/dialog";
import { PageHead, Shell } from "./ui/shell";

function NotFound() {
  useTitle("Not found");
  return (
    <>
      <PageHead title="There is no such page" />
      <p>
        The <A href="/">overview</A> has links to all that there is.
      </p>
    </>
  );
}

function decoded(part: string | undefined): string {
  try {
    return decodeURIComponent(part ?? "");
  } catch {
    return part ?? "";
  }
}

function Page() {
  const { path } = usePlace();
  const [, first, second, third] = path.split("/");
  const before = useRef(path);
  useEffect(() => {
    if (before.current === path) return;
    before.current = path;
    scrollTo(0, 0);
    // The keyboard and the screen reader follow to the new page.
    document.querySelector<HTMLElement>("main h1")?.focus({ preventScroll: true });
  }, [path]);

  if (path === "/") return <Overview />;
  if (first === "queues" && second) return <Queue key={second} name={decoded(second)} />;
  if (first === "tasks") return second ? <Task key={second} id={decoded(second)} /> : <Tasks />;
  if (first === "dead") return <Dead />;
  if (first === "schedules") return <Schedules />;
  if (first === "workers") return <Workers />;
  if (first === "keys") return <Keys />;
  if (first === "autoscaler") return second && third ? <AutoscalerPage key={path} name={`${decoded(second)}/${decoded(third)}`} /> : <AutoscalerList />;
  if (first === "audit") return <Audit />;
  return <NotFound />;
}

function App() {
  const [session, setSession] = useState<Session | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const open = () => {
    setError(null);
    openSession().then(setSession, (problem: unknown) =>
      setError(problem instanceof ApiError ? problem : new ApiError(0, message(problem))),
    );
  };
  useEffect(() => {
    onSignedOut(() => {
      setSession(null);
      setError((old) => old ?? new ApiError(401, ""));
    });
    onBack(() => {
      openSession().then(
        (fresh) =>
          setSession((old) => {
            // Figures of one Redis under the name of another would be wrong, and scripts of one version may not fit the other.
            if (old && (old.redis !== fresh.redis || old.version !== fresh.version || old.user !== fresh.user)) location.reload();
            return fresh;
          }),
        () => undefined, // it is asked again after the next loss; a login that has ended shows itself
      );
    });
    open();
  }, []);

  if (error?.status === 401) return <Login onDone={open} said={error.message} />;
  if (error) return <main class="alone"><h1>Taskfleet</h1><Trouble error={error.message} retry={open} /></main>;
  if (!session) return <main class="alone"><h1 class="sr">Taskfleet</h1><Loading /></main>;
  return (
    <SessionContext.Provider value={session}>
      <Shell>
        <Page />
      </Shell>
      <Dialogs />
    </SessionContext.Provider>
  );
}

applyTheme();
followLinks();
const root = document.getElementById("app")!;
root.replaceChildren();
render(<App />, root);
