// The blocks of the bucket over time: a lane for each stream, coloured by level and resolution.

import { useState } from "preact/hooks";
import { post, type Block, type Blocks, type Labels } from "../api";
import { Filter, LabelSet, Message, Page, useApi } from "../parts";
import { formatDuration, formatTimeMs } from "../time";

const RESOLUTIONS: Record<number, string> = { 0: "raw", 300000: "5 m", 3600000: "1 h" };
const VIEWS = ["global", "loaded"];

type Stream = { labels: Labels; resolution: number; blocks: Block[] };

function streams(blocks: Block[]): Stream[] {
  const groups = new Map<string, Stream>();
  for (const block of blocks) {
    const labels = block.thanos?.labels ?? {};
    const resolution = block.thanos?.downsample?.resolution ?? 0;
    const key = JSON.stringify([Object.entries(labels).sort(), resolution]);
    if (!groups.has(key)) groups.set(key, { labels, resolution, blocks: [] });
    groups.get(key)!.blocks.push(block);
  }
  return [...groups.entries()].sort(([left], [right]) => left.localeCompare(right)).map(([, stream]) => stream);
}

export function BlocksPage() {
  const [view, setView] = useState(VIEWS[0]!);
  const [filter, setFilter] = useState("");
  const [chosen, setChosen] = useState<Block>();
  const loaded = useApi<Blocks>("blocks", { view });
  const all = loaded.answer?.data.blocks ?? [];
  const shown = all.filter((block) => `${block.ulid} ${JSON.stringify(block.thanos?.labels)}`.includes(filter));
  const min = Math.min(...shown.map((block) => block.minTime));
  const max = Math.max(...shown.map((block) => block.maxTime));
  const aside = (
    <>
      <select aria-label="View" value={view} onChange={(event) => setView(event.currentTarget.value)}>
        {VIEWS.map((name) => (
          <option value={name} key={name}>
            {name}
          </option>
        ))}
      </select>
      <Filter value={filter} onChange={setFilter} what="blocks" />
    </>
  );
  return (
    <Page title="Blocks" loaded={loaded} aside={aside}>
      {all.length === 0 && <p class="muted">The bucket has no whole block yet.</p>}
      {shown.length > 0 && (
        <>
          <div class="axis num">
            <span>{formatTimeMs(min)}</span>
            <span>{formatTimeMs(max)}</span>
          </div>
          {streams(shown).map((stream) => (
            <div class="stream" key={JSON.stringify([stream.labels, stream.resolution])}>
              <div>
                <LabelSet labels={stream.labels} /> <span class="muted">{RESOLUTIONS[stream.resolution]} · {stream.blocks.length} blocks</span>
              </div>
              <Lanes blocks={stream.blocks} min={min} max={max} onChoose={setChosen} />
            </div>
          ))}
        </>
      )}
      {chosen && <Details block={chosen} onClose={() => setChosen(undefined)} onMarked={loaded.reload} />}
    </Page>
  );
}

function Lanes(props: { blocks: Block[]; min: number; max: number; onChoose: (block: Block) => void }) {
  const lanes: Block[][] = [];
  for (const block of [...props.blocks].sort((left, right) => left.minTime - right.minTime)) {
    const free = lanes.find((lane) => lane.at(-1)!.maxTime <= block.minTime);
    if (free) free.push(block);
    else lanes.push([block]);
  }
  const share = (ms: number) => `${(100 * ms) / Math.max(1, props.max - props.min)}%`;
  return (
    <>
      {lanes.map((lane) => (
        <div class="lane" key={lane[0]!.ulid}>
          {lane.map((block) => (
            <button
              key={block.ulid}
              class={`block level-${Math.min(block.compaction.level, 4)}`}
              style={{ left: share(block.minTime - props.min), width: share(block.maxTime - block.minTime) }}
              title={block.ulid}
              aria-label={`Block ${block.ulid}, level ${block.compaction.level}`}
              onClick={() => props.onChoose(block)}
            >
              {block.compaction.level}
            </button>
          ))}
        </div>
      ))}
    </>
  );
}

function Details({ block, onClose, onMarked }: { block: Block; onClose: () => void; onMarked: () => void }) {
  const [message, setMessage] = useState<{ kind: "error" | "info"; text: string }>();
  const mark = (action: string, words: string) => {
    if (!confirm(`Mark block ${block.ulid} for ${words}?`)) return;
    post("blocks/mark", { id: block.ulid, action, detail: "marked in the web interface" }).then(
      () => {
        setMessage({ kind: "info", text: `marked for ${words}` });
        onMarked();
      },
      (error: Error) => setMessage({ kind: "error", text: error.message }),
    );
  };
  const download = `data:application/json,${encodeURIComponent(JSON.stringify(block, null, "\t"))}`;
  const facts: [string, string][] = [
    ["From (UTC)", formatTimeMs(block.minTime)],
    ["To (UTC)", formatTimeMs(block.maxTime)],
    ["Range", formatDuration((block.maxTime - block.minTime) / 1000)],
    ["Level", String(block.compaction.level)],
    ["Series", block.stats.numSeries.toLocaleString("en")],
    ["Samples", block.stats.numSamples.toLocaleString("en")],
    ["Chunks", block.stats.numChunks.toLocaleString("en")],
    ["Source", block.thanos?.source ?? ""],
    ["Sources", (block.compaction.sources ?? []).join(", ")],
  ];
  return (
    <div class="card" role="region" aria-label="Block">
      <div class="title">
        <h2 class="mono">{block.ulid}</h2>
        <a class="button" href={download} download={`${block.ulid}-meta.json`}>
          Download meta.json
        </a>
        <button onClick={() => mark("DELETION", "deletion")}>Mark for deletion</button>
        <button onClick={() => mark("NO_COMPACTION", "no compaction")}>Mark for no compaction</button>
        <button class="quiet" onClick={onClose} aria-label="Close">
          ✕
        </button>
      </div>
      {message && <Message kind={message.kind}>{message.text}</Message>}
      <LabelSet labels={block.thanos?.labels} />
      <table class="facts">
        <tbody>
          {facts.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
