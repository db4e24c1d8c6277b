// The workflow around a task, as a graph that can be walked with the mouse and with the keyboard, and as a list.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Graph } from "../api/contract";
import { useData } from "../api/live";
import { visible } from "../format";
import { go, seg } from "../router";
import { GLYPHS, TONES } from "../words";
import { Foreign, Panel, State, TaskLink, Trouble } from "./basics";
import { Table } from "./table";

const WIDTH = 190;
const HEIGHT = 46;

interface Placed {
  nodes: Map<string, { x: number; y: number }>;
  edges: { path: string; kind: string; key: string }[];
  width: number;
  height: number;
}

/** dagre is a third of all scripts and most tasks have no workflow, so it comes when it is needed. */
async function layOut(graph: Graph): Promise<Placed> {
  const dagre = await import("@dagrejs/dagre");
  const plan = new dagre.graphlib.Graph();
  plan.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 44, marginx: 6, marginy: 6 });
  plan.setDefaultEdgeLabel(() => ({}));
  const known = new Set(graph.nodes.map((node) => node.id));
  for (const node of graph.nodes) plan.setNode(node.id, { width: WIDTH, height: HEIGHT });
  const edges = graph.edges.filter((edge) => known.has(edge.from) && known.has(edge.to));
  for (const edge of edges) plan.setEdge(edge.from, edge.to);
  dagre.layout(plan);
  const nodes = new Map(graph.nodes.map((node) => [node.id, { x: plan.node(node.id).x, y: plan.node(node.id).y }] as const));
  const size = plan.graph();
  return {
    nodes,
    width: Math.ceil(size.width ?? 0),
    height: Math.ceil(size.height ?? 0),
    edges: edges.map((edge) => {
      const points = (plan.edge(edge.from, edge.to) as { points: { x: number; y: number }[] }).points;
      const path = points.map((point, i) => `${i ? "L" : "M"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`).join("");
      return { path, kind: edge.kind, key: `${edge.from} ${edge.to}` };
    }),
  };
}

const short = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

export function Workflow({ id, version }: { id: string; version: string }) {
  const { data, error, reload } = useData<Graph>(`/api/tasks/${seg(id)}/graph`);
  const [placed, setPlaced] = useState<Placed | null>(null);
  const [chosen, setChosen] = useState(id);
  const [list, setList] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const seen = useRef(version);
  useEffect(() => {
    if (seen.current !== version) reload();
    seen.current = version;
  }, [version]);

  const shape = data && JSON.stringify([data.nodes.map((node) => node.id), data.edges]);
  useEffect(() => {
    if (!data || data.nodes.length < 2) return;
    let current = true;
    layOut(data).then((next) => current && setPlaced(next), () => current && setList(true));
    return () => void (current = false);
  }, [shape]);

  const near = useMemo(() => {
    const before = new Map<string, string[]>();
    const after = new Map<string, string[]>();
    for (const edge of data?.edges ?? []) {
      after.set(edge.from, [...(after.get(edge.from) ?? []), edge.to]);
      before.set(edge.to, [...(before.get(edge.to) ?? []), edge.from]);
    }
    return { before, after };
  }, [shape]);

  if (error) return <Panel id="workflow" title="Workflow"><Trouble error={error} retry={reload} /></Panel>;
  if (!data || data.nodes.length < 2) return null;
  const nodes = data.nodes;

  const walk = (event: KeyboardEvent) => {
    const at = placed?.nodes.get(chosen);
    if (!at || !placed) return;
    let to: string | undefined;
    if (event.key === "ArrowRight") to = near.after.get(chosen)?.[0];
    else if (event.key === "ArrowLeft") to = near.before.get(chosen)?.[0];
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const sign = event.key === "ArrowDown" ? 1 : -1;
      to = [...placed.nodes]
        .filter(([, place]) => Math.abs(place.x - at.x) < WIDTH / 2 && (place.y - at.y) * sign > 0)
        .sort((a, b) => (a[1].y - b[1].y) * sign)[0]?.[0];
    } else if (event.key === "Home") to = id;
    else if (event.key === "Enter") return go(`/tasks/${seg(chosen)}`);
    else return;
    event.preventDefault();
    if (!to) return;
    setChosen(to);
    const place = placed.nodes.get(to);
    const frame = box.current;
    if (place && frame) frame.scrollTo({ left: place.x - frame.clientWidth / 2, top: place.y - frame.clientHeight / 2 });
  };
  const now = nodes.find((node) => node.id === chosen) ?? nodes[0]!;
  return (
    <Panel
      id="workflow"
      title={<>Workflow <span class="faint">{nodes.length} tasks</span></>}
      aside={
        <>
          {!data.whole && <span class="tone-warn">only a part of it was found</span>}
          <button type="button" class="quiet" aria-pressed={list} onClick={() => setList(!list)}>{list ? "Graph" : "List"}</button>
        </>
      }
    >
      {list || !placed ? (
        <Table
          caption="Tasks of the workflow"
          rows={nodes}
          rowKey={(node) => node.id}
          columns={[
            { key: "task", head: "Task", cell: (node) => <Foreign text={node.task ?? "unknown"} clip={60} /> },
            { key: "id", head: "Id", cell: (node) => <TaskLink id={node.id} /> },
            { key: "state", head: "State", cell: (node) => <State state={node.state} /> },
            { key: "after", head: "Waits for", cell: (node) => (near.before.get(node.id) ?? []).map((each) => <><TaskLink key={each} id={each} /> </>) },
          ]}
        />
      ) : (
        <>
          <div
            class="graph"
            ref={box}
            tabIndex={0}
            role="application"
            aria-label="Workflow: arrow keys go from task to task, Enter opens one"
            aria-describedby="graph-now"
            onKeyDown={walk}
          >
            <svg width={placed.width} height={placed.height} viewBox={`0 0 ${placed.width} ${placed.height}`} aria-hidden="true">
              <defs>
                <marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
                  <path d="M0 0L8 4L0 8z" />
                </marker>
              </defs>
              {placed.edges.map((edge) => (
                <path key={edge.key} class={edge.kind === "sent" ? "edge edge-sent" : "edge"} d={edge.path} marker-end="url(#arrow)" />
              ))}
              {nodes.map((node) => {
                const place = placed.nodes.get(node.id);
                if (!place) return null;
                const name = `node tone-${TONES[node.state] ?? "plain"}${node.id === id ? " here" : ""}${node.id === chosen ? " chosen" : ""}`;
                return (
                  <g key={node.id} class={name} data-node={node.id} transform={`translate(${place.x - WIDTH / 2} ${place.y - HEIGHT / 2})`} onClick={() => (node.id === chosen ? go(`/tasks/${seg(node.id)}`) : setChosen(node.id))} onDblClick={() => go(`/tasks/${seg(node.id)}`)}>
                    <rect width={WIDTH} height={HEIGHT} rx="6" />
                    <text class="node-name" x="12" y="19">{short(visible(node.task ?? "unknown"), 24)}</text>
                    <text class="node-state" x="12" y="36">{GLYPHS[node.state] ?? "·"} {short(visible(node.state), 12)} · {short(visible(node.queue ?? ""), 12)}</text>
                  </g>
                );
              })}
            </svg>
          </div>
          <p id="graph-now" class="graph-now" aria-live="polite">
            <Foreign text={now.task ?? "unknown"} clip={80} /> <State state={now.state} /> <TaskLink id={now.id} />
            {now.id === id && <span class="faint"> (this task)</span>}
          </p>
        </>
      )}
    </Panel>
  );
}
