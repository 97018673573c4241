// The blocks of the bucket over time: lanes for each stream of blocks, coloured by level, narrower the
// coarser they are, with their marks.

import { useEffect, useRef, useState } from "preact/hooks";
import { post, type Block, type Blocks, type Labels } from "../api";
import { Badge, Filter, LabelSet, Message, Page, useApi } from "../parts";
import { ago, formatDuration, formatTimeMs, zoneName } from "../time";

const RESOLUTIONS: Record<number, string> = { 0: "raw", 300000: "5 m", 3600000: "1 h" };
const VIEWS = ["global", "loaded"];
const MARKS: Record<string, string> = {
  deletion: "marked for deletion",
  "no-compact": "left out of compaction",
  "no-downsample": "left out of downsampling",
};

type Stream = { labels: Labels; resolution: number; blocks: Block[] };

/** What the filter looks into, in lower case. */
function words(block: Block): string {
  const marks = (block.marks ?? []).join(" ");
  return `${block.ulid} ${JSON.stringify(block.thanos?.labels)} ${marks} level-${block.compaction.level}`.toLowerCase();
}

/** The streams; those with the same value of the grouping label stand together. */
function streams(blocks: Block[], label: string): Stream[] {
  const groups = new Map<string, Stream>();
  for (const block of blocks) {
    const labels = block.thanos?.labels ?? {};
    const resolution = block.thanos?.downsample?.resolution ?? 0;
    const key = JSON.stringify([Object.entries(labels).sort(), resolution]);
    if (!groups.has(key)) groups.set(key, { labels, resolution, blocks: [] });
    groups.get(key)!.blocks.push(block);
  }
  const rank = (stream: Stream, key: string) => `${label ? (stream.labels[label] ?? "") : ""}\u0000${key}`;
  return [...groups.entries()]
    .sort(([leftKey, left], [rightKey, right]) => rank(left, leftKey).localeCompare(rank(right, rightKey)))
    .map(([, stream]) => stream);
}

export function BlocksPage() {
  const [view, setView] = useState(VIEWS[0]!);
  const [filter, setFilter] = useState("");
  const [chosen, setChosen] = useState<Block>();
  const opener = useRef<HTMLElement>();
  const loaded = useApi<Blocks>("blocks", { view });
  const data = loaded.answer?.data;
  const all = data?.blocks ?? [];
  const shown = all.filter((block) => words(block).includes(filter.toLowerCase()));
  const current = chosen && (all.find((block) => block.ulid === chosen.ulid) ?? chosen);
  const min = Math.min(...shown.map((block) => block.minTime));
  const max = Math.max(...shown.map((block) => block.maxTime));
  const choose = (block: Block, button: HTMLElement) => {
    opener.current = button;
    setChosen({ ...block });
  };
  const close = () => {
    setChosen(undefined);
    opener.current?.focus();
  };
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
      {data?.err && <Message kind="error">{String(data.err)}</Message>}
      {data && <p class="muted">Seen {ago(data.refreshedAt)}</p>}
      {all.length === 0 && <p class="muted">The bucket has no whole block yet.</p>}
      {all.length > 0 && shown.length === 0 && <p class="muted">No block matches the filter.</p>}
      {shown.length > 0 && (
        <>
          <div class="axis num">
            <span>{formatTimeMs(min)}</span>
            <span>{formatTimeMs(max)}</span>
          </div>
          <Legend blocks={shown} />
          {streams(shown, data?.label ?? "").map((stream) => (
            <div class="stream" key={JSON.stringify([stream.labels, stream.resolution])}>
              <div>
                <LabelSet labels={stream.labels} />{" "}
                <span class="muted">
                  {RESOLUTIONS[stream.resolution]} · {stream.blocks.length} blocks
                </span>
              </div>
              <Lanes blocks={stream.blocks} min={min} max={max} onChoose={choose} />
            </div>
          ))}
        </>
      )}
      {chosen && current && (
        <Details
          key={current.ulid}
          block={current}
          chosen={chosen}
          admin={data?.adminOperations ?? false}
          onClose={close}
          onMarked={loaded.reload}
        />
      )}
    </Page>
  );
}

function Legend({ blocks }: { blocks: Block[] }) {
  const levels = [...new Set(blocks.map((block) => Math.min(block.compaction.level, 4)))].sort();
  return (
    <div class="controls muted" aria-label="Legend">
      {levels.map((level) => (
        <span class="check" key={level}>
          <i class={`swatch level-${level}`} /> level {level === 4 ? "4 and above" : level}
        </span>
      ))}
    </div>
  );
}

type LanesProps = { blocks: Block[]; min: number; max: number; onChoose: (block: Block, button: HTMLElement) => void };

function Lanes(props: LanesProps) {
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
              class={`block level-${Math.min(block.compaction.level, 4)}${block.marks?.length ? " marked" : ""}`}
              style={{ left: share(block.minTime - props.min), width: share(block.maxTime - block.minTime) }}
              title={[block.ulid, ...(block.marks ?? []).map((mark) => MARKS[mark] ?? mark)].join("\n")}
              aria-label={[`Block ${block.ulid}`, `level ${block.compaction.level}`, ...(block.marks ?? [])].join(", ")}
              onClick={(event) => props.onChoose(block, event.currentTarget)}
            >
              {block.compaction.level}
            </button>
          ))}
        </div>
      ))}
    </>
  );
}

type DetailsProps = {
  block: Block;
  /** It as it was chosen: another one each time that it is. */
  chosen: Block;
  admin: boolean;
  onClose: () => void;
  onMarked: () => void;
};

function Details({ block, chosen, admin, onClose, onMarked }: DetailsProps) {
  const [message, setMessage] = useState<{ kind: "error" | "info"; text: string }>();
  const card = useRef<HTMLDivElement>(null);
  // Below many streams it would open unseen.
  useEffect(() => {
    card.current?.scrollIntoView({ block: "nearest" });
    card.current?.focus({ preventScroll: true });
  }, [chosen]);
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
  const { marks, ...meta } = block;
  const download = `data:application/json,${encodeURIComponent(JSON.stringify(meta, null, "\t"))}`;
  const has = (name: string) => marks?.includes(name) ?? false;
  const facts: [string, string][] = [
    [`From (${zoneName()})`, formatTimeMs(block.minTime)],
    [`To (${zoneName()})`, formatTimeMs(block.maxTime)],
    ["Range", formatDuration((block.maxTime - block.minTime) / 1000)],
    ["Resolution", RESOLUTIONS[block.thanos?.downsample?.resolution ?? 0] ?? "unknown"],
    ["Level", String(block.compaction.level)],
    ["Series", block.stats.numSeries.toLocaleString("en")],
    ["Samples", block.stats.numSamples.toLocaleString("en")],
    ["Chunks", block.stats.numChunks.toLocaleString("en")],
    ["Source", block.thanos?.source ?? ""],
    ["Parents", (block.compaction.parents ?? []).map((parent) => parent.ulid).join(", ")],
    ["Sources", (block.compaction.sources ?? []).join(", ")],
  ];
  return (
    <div class="card" role="region" aria-label="Block" tabIndex={-1} ref={card}>
      <div class="title">
        <h2 class="mono">{block.ulid}</h2>
        <a class="button" href={download} download={`${block.ulid}-meta.json`}>
          Download meta.json
        </a>
        {admin && (
          <>
            <button disabled={has("deletion")} onClick={() => mark("DELETION", "deletion")}>
              Mark for deletion
            </button>
            <button disabled={has("no-compact")} onClick={() => mark("NO_COMPACTION", "no compaction")}>
              Mark for no compaction
            </button>
          </>
        )}
        <button class="quiet" onClick={onClose} aria-label="Close">
          ✕
        </button>
      </div>
      {message && <Message kind={message.kind}>{message.text}</Message>}
      <LabelSet labels={block.thanos?.labels} />{" "}
      {(marks ?? []).map((name) => (
        <Badge kind={name === "deletion" ? "bad" : "soso"} key={name}>
          {MARKS[name] ?? name}
        </Badge>
      ))}
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
