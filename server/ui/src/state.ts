// The panels of the query page and how they stand in the address, so that a link shows the same.

export type Tab = "table" | "graph" | "explain";

export type Panel = {
  key: number;
  expr: string;
  tab: Tab;
  range: string;
  end: string;
  step: string;
  stacked: boolean;
  /** Whether the axis of values has zero on it, whatever the values are. */
  fromZero: boolean;
  dedup: boolean;
  partial: boolean;
  resolution: string;
  /** Names of the endpoints that are asked; none for all. */
  stores: string[];
  /** Who asks, where tenants are kept apart. */
  tenant: string;
};

let nextKey = 1;

export function newPanel(): Panel {
  return {
    key: nextKey++,
    expr: "",
    tab: "graph",
    range: "1h",
    end: "",
    step: "",
    stacked: false,
    fromZero: false,
    dedup: true,
    partial: true,
    resolution: "0s",
    stores: [],
    tenant: "",
  };
}

const TABS: Tab[] = ["graph", "table", "explain"];

/** The view that an address names, by its number in older ones. */
function readTab(text: string | null): Tab {
  return TABS.find((tab) => tab === text) ?? TABS[Number(text ?? "0")] ?? "graph";
}

/** Panels of an address such as "?g0.expr=up&g0.tab=1"; one empty panel when there is none. Addresses of Prometheus'
 * pages, old and new, and of Thanos' are understood. */
export function readPanels(search: string): Panel[] {
  const params = new URLSearchParams(search);
  const panels: Panel[] = [];
  for (let at = 0; params.has(`g${at}.expr`); at++) {
    const read = (name: string) => params.get(`g${at}.${name}`);
    const panel = newPanel();
    panel.expr = read("expr") ?? "";
    panel.tab = readTab(read("tab"));
    panel.range = read("range_input") ?? panel.range;
    // Where there are both, Prometheus takes the time of the table too.
    panel.end = read("moment_input") ?? read("end_input") ?? panel.end;
    const hasStep = ["fixed", "custom"].includes(read("res_type") ?? "");
    panel.step = (hasStep ? read("res_step") : null) ?? read("step_input") ?? panel.step;
    panel.stacked = (read("stacked") ?? (read("display_mode") === "stacked" ? "1" : "0")) === "1";
    panel.fromZero = read("y_axis_min") === "0";
    panel.dedup = read("deduplicate") !== "0";
    panel.partial = read("partial_response") !== "0";
    panel.resolution = read("max_source_resolution") ?? panel.resolution;
    panel.stores = readStores(read("store_matches"));
    panel.tenant = read("tenant") ?? panel.tenant;
    panels.push(panel);
  }
  return panels.length > 0 ? panels : [newPanel()];
}

/** Names in a list of endpoints as Thanos' addresses have it. */
function readStores(text: string | null): string[] {
  try {
    const stores: unknown = JSON.parse(text ?? "[]");
    if (!Array.isArray(stores)) return [];
    return stores.map((store) => (store as { name?: unknown } | null)?.name).filter((name) => typeof name === "string");
  } catch {
    return [];
  }
}

/** The address of `panels`. */
export function writePanels(panels: Panel[]): string {
  const params = new URLSearchParams();
  panels.forEach((panel, at) => {
    const write = (name: string, value: string) => params.set(`g${at}.${name}`, value);
    write("expr", panel.expr);
    write("tab", String(TABS.indexOf(panel.tab)));
    write("range_input", panel.range);
    if (panel.end) write("end_input", panel.end);
    if (panel.step) write("step_input", panel.step);
    if (panel.stacked) write("stacked", "1");
    if (panel.fromZero) write("y_axis_min", "0");
    if (!panel.dedup) write("deduplicate", "0");
    if (!panel.partial) write("partial_response", "0");
    if (panel.stores.length > 0) write("store_matches", JSON.stringify(panel.stores.map((name) => ({ name }))));
    if (panel.tenant) write("tenant", panel.tenant);
    if (panel.resolution !== "0s") write("max_source_resolution", panel.resolution);
  });
  return `?${params}`;
}

let left = "";

/** Remembers the panels for when another page leads back, also what is typed there and has not run. */
export function leavePanels(search: string) {
  left = search;
}

/** The address of the panels as they were left. */
export const leftPanels = (): string => left;
