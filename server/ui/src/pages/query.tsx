// The query page: panels of an expression with its table, graph or plan.

import { useEffect, useState } from "preact/hooks";
import { prefix } from "../api";
import { PanelView } from "../query/panel";
import { newPanel, readPanels, writePanels, type Panel } from "../state";

export function QueryPage() {
  const [panels, setPanels] = useState(() => readPanels(location.search));
  useEffect(() => {
    const moved = () => setPanels(readPanels(location.search));
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, []);
  const update = (next: Panel[]) => {
    setPanels(next);
    history.replaceState(null, "", `${prefix}/graph${writePanels(next)}`);
  };
  const change = (changed: Panel) => update(panels.map((panel) => (panel.key === changed.key ? changed : panel)));
  const remove = (key: number) => {
    const rest = panels.filter((panel) => panel.key !== key);
    update(rest.length > 0 ? rest : [newPanel()]);
  };
  return (
    <>
      <h1 class="unseen">Query</h1>
      {panels.map((panel) => (
        <PanelView key={panel.key} panel={panel} onChange={change} onRemove={() => remove(panel.key)} />
      ))}
      <button onClick={() => update([...panels, newPanel()])}>Add panel</button>
    </>
  );
}
