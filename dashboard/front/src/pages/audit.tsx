// Who changed what.
import { useState } from "preact/hooks";
import type { AuditRow, Page } from "../api/contract";
import { useData } from "../api/live";
import { useTitle } from "../state";
import { At, Empty, Foreign, Loading, State, Trouble } from "../ui/basics";
import { PageHead } from "../ui/shell";
import { CursorPager, Table } from "../ui/table";

export function Audit() {
  useTitle("Audit");
  const [trail, setTrail] = useState<string[]>([]);
  const { data, error, reload } = useData<Page<AuditRow>>("/api/audit", { cursor: trail.at(-1) ?? null });
  return (
    <>
      <PageHead title="Audit" sub="Every change that was made here, and every one that was refused. The latest first.">
        <button type="button" onClick={reload}>Refresh</button>
      </PageHead>
      {error && <Trouble error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data && (
        <section class="panel" aria-label="Changes">
          {data.items.length ? (
            <Table
              caption="Changes"
              rows={data.items.map((row, i) => ({ ...row, i }))}
              rowKey={(row) => `${row.at} ${row.i}`}
              columns={[
                { key: "at", head: "When", cell: (row) => <At at={row.at} /> },
                { key: "user", head: "Who", cell: (row) => (row.user ? <Foreign text={row.user} clip={60} /> : <span class="faint">nobody in particular</span>) },
                { key: "action", head: "What", cell: (row) => <b><Foreign text={row.action} /></b> },
                { key: "subject", head: "Of what", cell: (row) => <Foreign text={row.subject} clip={80} mono /> },
                { key: "detail", head: "Detail", wide: true, cell: (row) => <Foreign text={row.detail} clip={200} /> },
                { key: "outcome", head: "Outcome", cell: (row) => (row.outcome === "done" ? <State state="done" /> : <State state="refused"><Foreign text={row.outcome} clip={80} /></State>) },
              ]}
            />
          ) : (
            <Empty>Nothing was changed from the dashboard yet.</Empty>
          )}
          <CursorPager trail={trail} next={data.cursor} onChange={setTrail} />
        </section>
      )}
    </>
  );
}
