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

export function QueryPage() {
  const [panels, setPanels] = useState(() => readPanels(location.search));
  // Panels change more than once before they are shown, such as by a letter and Enter after it.
  const latest = useRef(panels);
  const address = useRef(writePanels(panels));
  const loaded = useApi<Flags>("status/flags");
  const flags = loaded.answer?.data ?? (loaded.error && NO_FLAGS);
  const show = (next: Panel[]) => {
    latest.current = next;
    setPanels(next);
    leavePanels(writePanels(next));
  };
  useEffect(() => {
    leavePanels(location.search);
    const moved = () => {
      const next = readPanels(location.search);
      const isElsewhere = !PATHS.includes(location.pathname.slice(prefix.length));
      if (isElsewhere || writePanels(next) === address.current) return;
      address.current = writePanels(next);
      show(next);
    };
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, []);
  /** Shows the panels and makes a step of the browser's history of them, if they have another address. */
  const update = (next: Panel[]) => {
    show(next);
    if (writePanels(next) === address.current) return;
    address.current = writePanels(next);
    history.pushState(null, "", `${prefix}/graph${address.current}`);
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
          onType={(expr) => show(changed(panel.key, { expr }))}
          onRemove={() => remove(panel.key)}
        />
      ))}
      <button onClick={() => update([...latest.current, newPanel()])}>Add panel</button>
    </>
  );
}
