// What a panel lets choose from lists: the endpoints that are asked, and queries that were run before.

import { useState } from "preact/hooks";
import type { Endpoint } from "../api";
import { useApi } from "../parts";
import { forget as forgetSaved, load, save } from "../saved";

const SAVED = "uru-queries";
const QUERIES_MAX = 50;

/** Queries that were run before, the last first. */
export function readQueries(): string[] {
  try {
    const saved: unknown = JSON.parse(load(SAVED) ?? "[]");
    return Array.isArray(saved) ? saved.filter((query) => typeof query === "string") : [];
  } catch {
    return [];
  }
}

/** Remembers a query that was answered. */
export function rememberQuery(query: string) {
  const others = readQueries().filter((known) => known !== query);
  save(SAVED, JSON.stringify([query, ...others].slice(0, QUERIES_MAX)));
}

/** Queries that were run before; one that is chosen is run again. */
export function History({ onChoose }: { onChoose: (query: string) => void }) {
  const [queries, setQueries] = useState<string[]>([]);
  const forget = () => {
    forgetSaved(SAVED);
    setQueries([]);
  };
  return (
    <details class="choice" onToggle={(event) => event.currentTarget.open && setQueries(readQueries())}>
      <summary>History</summary>
      {queries.length === 0 && <p class="muted">No query has been answered yet.</p>}
      <ul aria-label="Queries run before">
        {queries.map((query) => (
          <li key={query}>
            <button class="quiet mono" onClick={() => onChoose(query)}>
              {query}
            </button>
          </li>
        ))}
      </ul>
      {queries.length > 0 && <button onClick={forget}>Forget all</button>}
    </details>
  );
}

/** The endpoints that are asked. */
export function Stores({ chosen, onChange }: { chosen: string[]; onChange: (chosen: string[]) => void }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="choice" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{chosen.length === 0 ? "All stores" : chosen.length === 1 ? "1 store" : `${chosen.length} stores`}</summary>
      {open && <Endpoints chosen={chosen} onChange={onChange} />}
    </details>
  );
}

function Endpoints({ chosen, onChange }: { chosen: string[]; onChange: (chosen: string[]) => void }) {
  const { answer, error } = useApi<Record<string, Endpoint[] | null>>("stores");
  const known = Object.values(answer?.data ?? {}).flatMap((endpoints) => (endpoints ?? []).map((one) => one.name));
  // One that was chosen may have gone since.
  const names = [...new Set([...known, ...chosen])].sort();
  const toggle = (name: string, on: boolean) => onChange(on ? [...chosen, name] : chosen.filter((one) => one !== name));
  if (error) return <p class="muted">{error.message}</p>;
  return (
    <ul aria-label="Stores to ask">
      {names.map((name) => (
        <li key={name}>
          <label class="check mono">
            <input type="checkbox" checked={chosen.includes(name)} onChange={(event) => toggle(name, event.currentTarget.checked)} />
            {name}
          </label>
        </li>
      ))}
    </ul>
  );
}
