// The heaviest limit keys and fair keys of all queues.
import type { Keys as AllKeys } from "../api/contract";
import { useData } from "../api/live";
import { setQuery, usePlace } from "../router";
import { useTitle } from "../state";
import { Empty, Field, Loading, Notice, Panel, Problems, Trouble } from "../ui/basics";
import { PageHead } from "../ui/shell";
import { KeyTable } from "./queue";

export function Keys() {
  useTitle("Keys");
  const { query } = usePlace();
  const queue = query.get("queue") ?? "";
  const { data, error, reload } = useData<AllKeys>("/api/keys", { queue });
  return (
    <>
      <PageHead title="Keys" sub="Limit keys and fair keys that hold the most tasks, the heaviest first.">
        <Field label="Queue" search value={queue} onChange={(value) => setQuery({ queue: value })} wait={400} />
        <button type="button" onClick={reload}>Refresh</button>
      </PageHead>
      {error && <Trouble error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data && (
        <>
          <Problems lines={data.problems} />
          {!data.whole && <Notice tone="warn"><span class="glyph" aria-hidden="true">!</span> Only a part of the waiting tasks was looked at: there may be heavier keys.</Notice>}
          <div class="columns">
            <Panel id="limit" title="Limit keys">{data.limit_keys.length ? <KeyTable caption="Limit keys" rows={data.limit_keys} /> : <Empty>No waiting task has a limit key.</Empty>}</Panel>
            <Panel id="fair" title="Fair keys">{data.fair_keys.length ? <KeyTable caption="Fair keys" rows={data.fair_keys} /> : <Empty>No waiting task has a fair key.</Empty>}</Panel>
          </div>
        </>
      )}
    </>
  );
}
