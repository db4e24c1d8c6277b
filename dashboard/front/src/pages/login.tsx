// The login with a token. Where a proxy or Kubernetes says who it is, there is nothing to type here.
import { useState } from "preact/hooks";
import { message, post } from "../api/client";
import { useTitle } from "../state";
import { Foreign } from "../ui/basics";

export function Login({ onDone, said }: { onDone: () => void; said: string }) {
  useTitle("Log in");
  const [token, setToken] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      await post("/api/login", { token });
      onDone();
    } catch (problem) {
      setError(message(problem));
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="alone">
      <form class="panel login" onSubmit={submit}>
        <h1>Taskfleet</h1>
        <p>This dashboard asks for a token. Whoever started it has set one.</p>
        <label class="field field-block">
          <span>Token</span>
          <input type="password" autocomplete="current-password" value={token} onInput={(event) => setToken(event.currentTarget.value)} required autofocus />
        </label>
        {(error || said) && (
          <p class={error ? "tone-bad" : "faint"} role="alert">
            <Foreign text={error || said} />
          </p>
        )}
        <button type="submit" class="primary" disabled={busy || !token}>
          Log in
        </button>
      </form>
    </main>
  );
}
