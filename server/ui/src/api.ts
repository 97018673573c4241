// The HTTP API of uru, Prometheus and Thanos as the pages use it.

function meta(name: string): string {
  return document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`)?.content ?? "";
}

/** Path below which everything is served, without a slash at its end. */
export const prefix = meta("uru-prefix").replace(/\/+$/, "");

/** The same with the origin: what is fetched may not name who asks, even where the page's own address does. */
export const root = location.origin + prefix;

/** The subcommand that serves the page: "query", "store", "compact", "receive", "all-in-one". */
export const component = meta("uru-component");

/** Whether it has pages for the blocks of a bucket alone. */
export const showsBucket = ["store", "compact", "bucket"].includes(component);

export type Labels = Record<string, string>;
export type HistogramBucket = [number, string, string, string];
export type HistogramValue = { count: string; sum: string; buckets?: HistogramBucket[] };
export type Series = {
  metric: Labels;
  values?: [number, string][];
  histograms?: [number, HistogramValue][];
};
export type Instant = { metric: Labels; value?: [number, string]; histogram?: [number, HistogramValue] };
export type Operator = {
  name?: string;
  executionTime?: string;
  totalSamples?: number;
  peakSamples?: number;
  samples?: number;
  series?: number;
  bytes?: number;
  children?: Operator[];
};
export type QueryData = { analysis?: Operator } & (
  | { resultType: "vector"; result: Instant[] }
  | { resultType: "matrix"; result: Series[] }
  | { resultType: "scalar"; result: [number, string] }
  | { resultType: "string"; result: [number, string] }
);
export type Endpoint = {
  name: string;
  lastCheck: string;
  lastError: string | null;
  labelSets: Labels[] | null;
  minTime: number;
  maxTime: number;
};
export type Block = {
  ulid: string;
  minTime: number;
  maxTime: number;
  stats: { numSamples: number; numSeries: number; numChunks: number };
  compaction: { level: number; sources?: string[]; parents?: { ulid: string }[] };
  thanos?: { labels?: Labels; downsample?: { resolution: number }; source?: string };
  marks?: string[];
};
export type Blocks = {
  label: string;
  blocks: Block[] | null;
  refreshedAt: string;
  err: unknown;
  adminOperations?: boolean;
};
export type Alert = {
  labels: Labels;
  annotations: Labels;
  state: string;
  activeAt?: string;
  value: string;
  partialResponseStrategy?: string;
};
export type Rule = {
  type: "alerting" | "recording";
  name: string;
  query: string;
  health: string;
  state?: string;
  duration?: number;
  keepFiringFor?: number;
  labels?: Labels;
  annotations?: Labels;
  alerts?: Alert[];
  lastError?: string;
  evaluationTime?: number;
  lastEvaluation?: string;
};
export type RuleGroup = {
  name: string;
  file: string;
  interval: number;
  rules: Rule[];
  lastEvaluation?: string;
  evaluationTime?: number;
};
export type Target = {
  labels: Labels;
  discoveredLabels: Labels;
  scrapePool: string;
  scrapeUrl: string;
  health: string;
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
};
export type Targets = { activeTargets: Target[] | null; droppedTargets: { discoveredLabels: Labels }[] | null };

/** Flags of the process by their names, without dashes. */
export type Flags = Record<string, string>;

/** `ahead` is by how many seconds the clock here is before the server's; a cache between says how old its answer is. */
export type Answer<T> = { data: T; warnings: string[]; infos: string[]; ahead: number };

/** An answer that says what went wrong, in the server's words. */
export class ApiError extends Error {
  constructor(
    readonly errorType: string,
    message: string,
  ) {
    super(message);
  }
}

type Envelope<T> = {
  status: string;
  data: T;
  errorType?: string;
  error?: string;
  warnings?: string[];
  infos?: string[];
};

/** Parameters of this many bytes still go into an address. */
const ADDRESS_BYTES_MAX = 8000;

/** GET `/api/v1/<path>`, or POST where there are parameters too long for an address; throws ApiError. */
export async function get<T>(
  path: string,
  params: Record<string, string | string[]> = {},
  how: { signal?: AbortSignal; headers?: Record<string, string> } = {},
): Promise<Answer<T>> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== "") query.append(name, one);
  }
  const text = query.toString();
  if (text.length > ADDRESS_BYTES_MAX) return read(await fetch(`${root}/api/v1/${path}`, { ...how, method: "POST", body: query }));
  return read(await fetch(`${root}/api/v1/${path}${text && "?" + text}`, how));
}

/** POST a form to `/api/v1/<path>`; throws ApiError. */
export async function post<T>(path: string, form: Record<string, string>): Promise<Answer<T>> {
  return read(await fetch(`${root}/api/v1/${path}`, { method: "POST", body: new URLSearchParams(form) }));
}

async function read<T>(response: Response): Promise<Answer<T>> {
  const age = Number(response.headers.get("Age") ?? 0);
  const ahead = (Date.now() - Date.parse(response.headers.get("Date") ?? "")) / 1000 - age || 0;
  if (response.status === 204) return { data: undefined as T, warnings: [], infos: [], ahead };
  let envelope: Envelope<T>;
  try {
    envelope = await response.json();
  } catch {
    throw new ApiError("internal", `${response.status} ${response.statusText}: the answer is not JSON`);
  }
  if (envelope.status !== "success") {
    throw new ApiError(envelope.errorType ?? "internal", envelope.error ?? response.statusText);
  }
  return { data: envelope.data, warnings: envelope.warnings ?? [], infos: envelope.infos ?? [], ahead };
}

/** Names that PromQL takes without quotes. */
export const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
export const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** Where `query` is asked and drawn. */
export const graphOf = (query: string): string => `${prefix}/graph?g0.expr=${encodeURIComponent(query)}&g0.tab=0`;

/** A series as PromQL writes it: names that are no identifiers are quoted, the metric's within the braces. */
export function seriesName(metric: Labels): string {
  const { __name__: name = "", ...rest } = metric;
  const labels = Object.entries(rest).map(([label, value]) => {
    return `${LABEL_NAME.test(label) ? label : JSON.stringify(label)}=${JSON.stringify(value)}`;
  });
  const isPlain = name === "" || METRIC_NAME.test(name);
  if (!isPlain) labels.unshift(JSON.stringify(name));
  const shown = isPlain ? name : "";
  return labels.length > 0 ? `${shown}{${labels.join(", ")}}` : shown || "{}";
}
