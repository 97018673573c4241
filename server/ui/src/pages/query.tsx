// The query page: panels of an expression with its table, graph or plan.

import { useEffect, useRef, useState } from "preact/hooks";
import { prefix, type Flags } from "../api";
import { useApi } from "../parts";
import { PanelView } from "../query/panel";
import { leavePanels, newPanel, readPanels, writePanels, type Panel } from "../state";

/** Where the page is found. */
const PATHS = ["/graph", "/query"];

/** Those of a process that does not say them. */
const NO_FLAGS: Flags = {};

/** One that does not answer within so many milliseconds is held for one that does not say them. */
const FLAGS_WITHIN_MS = 5000;

/** After so many milliseconds without a letter the address has what is typed: browsers let it change 200 times in 30 s. */
const TYPED_AFTER_MS = 300;

/** Panels of the address `to`, where `panels` were led to by the address `from`. One that is the same in both is kept
 * and so asks nothing again; one with the same query keeps its focus and what it hides. */
function movedPanels(to: string, from: string, panels: Panel[]): Panel[] {
  const before = readPanels(from);
  return readPanels(to).map((next, at) => {
    const [asked, panel] = [before[at], panels[at]];
    if (!asked || !panel) return next;
    if (writePanels([asked]) === writePanels([next])) return panel;
    return asked.expr === next.expr && panel.expr === next.expr ? { ...next, key: panel.key } : next;
  });
}

/** Puts the address of panels into the browser's history, as a step of it or instead of the last one. */
function writeAddress(search: string, how: "pushState" | "replaceState") {
  history[how](null, "", `${prefix}/graph${search}`);
}

export function QueryPage() {
  const [panels, setPanels] = useState(() => readPanels(location.search));
  // Panels change more than once before they are shown, such as by a letter and Enter after it.
  const latest = useRef(panels);
  const address = useRef(writePanels(panels));
  const typing = useRef<number>();
  const loaded = useApi<Flags>("status/flags", {}, FLAGS_WITHIN_MS);
  const flags = loaded.answer?.data ?? (loaded.error && NO_FLAGS);
  const show = (next: Panel[]) => {
    latest.current = next;
    setPanels(next);
    leavePanels(writePanels(next));
  };
  useEffect(() => {
    leavePanels(location.search);
    const moved = () => {
      clearTimeout(typing.current);
      typing.current = undefined;
      const isElsewhere = !PATHS.includes(location.pathname.slice(prefix.length));
      const search = writePanels(readPanels(location.search));
      if (isElsewhere || search === address.current) return;
      const next = movedPanels(search, address.current, latest.current);
      address.current = search;
      show(next);
    };
    addEventListener("popstate", moved);
    return () => {
      removeEventListener("popstate", moved);
      clearTimeout(typing.current);
    };
  }, []);
  /** Shows the panels and makes a step of the browser's history of them, if they have another address. */
  const update = (next: Panel[]) => {
    show(next);
    // What was typed is no step: the one before is again what was asked there.
    if (typing.current !== undefined) writeAddress(address.current, "replaceState");
    clearTimeout(typing.current);
    typing.current = undefined;
    if (writePanels(next) === address.current) return;
    address.current = writePanels(next);
    writeAddress(address.current, "pushState");
  };
  /** Shows what is typed and keeps it for when the page is loaded again. */
  const type = (next: Panel[]) => {
    show(next);
    clearTimeout(typing.current);
    typing.current = setTimeout(() => writeAddress(writePanels(next), "replaceState"), TYPED_AFTER_MS);
  };
  const changed = (key: number, change: Partial<Panel>) =>
    latest.current.map((panel) => (panel.key === key ? { ...panel, ...change } : panel));
  const remove = (key: number) => {
    const rest = latest.current.filter((panel) => panel.key !== key);
    update(rest.length > 0 ? rest : [newPanel()]);
  };
  return (
    <>
      <h1 class="unseen">Query</h1>
      {panels.map((panel) => (
        <PanelView
          key={panel.key}
          panel={panel}
          flags={flags}
          onChange={(change) => update(changed(panel.key, change))}
          onType={(expr) => type(changed(panel.key, { expr }))}
          onRemove={() => remove(panel.key)}
        />
      ))}
      <button onClick={() => update([...latest.current, newPanel()])}>Add panel</button>
    </>
  );
}
