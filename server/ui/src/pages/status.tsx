// What runs here: build, run time, flags, and the cardinality of a head where there is one.

import { useState } from "preact/hooks";
import { component, showsBucket } from "../api";
import { Facts, Filter, Page, useApi } from "../parts";
import { formatRangeMs } from "../time";

type Count = { name: string; value: number };
type Tsdb = {
  tenant?: string;
  headStats?: Record<string, unknown>;
  seriesCountByMetricName?: Count[];
  labelValueCountByLabelName?: Count[];
  memoryInBytesByLabelName?: Count[];
  seriesCountByLabelValuePair?: Count[];
};

export function StatusPage() {
  const runtime = useApi<Record<string, unknown>>("status/runtimeinfo");
  const build = useApi<Record<string, unknown>>("status/buildinfo");
  return (
    <>
      <Page title="Status" loaded={runtime}>
        <Facts facts={runtime.answer?.data ?? {}} />
      </Page>
      <Page title="Build" loaded={build}>
        <Facts facts={build.answer?.data ?? {}} />
      </Page>
      {showsBucket || <Heads />}
    </>
  );
}

/** A receiver answers for one tenant unless it is asked for all. */
const TENANTS: Record<string, string> = component === "receive" ? { all_tenants: "true" } : {};

function Heads() {
  const tsdb = useApi<Tsdb | Tsdb[]>("status/tsdb", TENANTS);
  const heads = tsdb.answer ? [tsdb.answer.data].flat() : [];
  return (
    <>
      {component === "receive" && tsdb.error && <Page title="Heads" loaded={tsdb} />}
      {heads.map((head) => (
        <Page title={head.tenant ? `Head of ${head.tenant}` : "Head"} key={head.tenant}>
          <Facts facts={readable(head.headStats ?? {})} />
          <Counts title="Series by metric name" counts={head.seriesCountByMetricName} />
          <Counts title="Values by label" counts={head.labelValueCountByLabelName} />
          <Counts title="Bytes by label" counts={head.memoryInBytesByLabelName} />
          <Counts title="Series by label and value" counts={head.seriesCountByLabelValuePair} />
        </Page>
      ))}
    </>
  );
}

/** The same with times as people read them. */
function readable(stats: Record<string, unknown>): Record<string, unknown> {
  const { minTime, maxTime } = stats;
  if (typeof minTime !== "number" || typeof maxTime !== "number") return stats;
  const [from, to] = formatRangeMs(minTime, maxTime);
  return { ...stats, minTime: from, maxTime: to };
}

function Counts(props: { title: string; counts: Count[] | undefined }) {
  if (!props.counts?.length) return null;
  return (
    <>
      <h2>{props.title}</h2>
      <Facts facts={Object.fromEntries(props.counts.map(({ name, value }) => [name, value.toLocaleString("en")]))} />
    </>
  );
}

export function FlagsPage() {
  const flags = useApi<Record<string, string>>("status/flags");
  const [filter, setFilter] = useState("");
  const wanted = filter.toLowerCase();
  const all = Object.entries(flags.answer?.data ?? {}).map(([name, value]) => [`--${name}`, value] as const);
  const shown = all.filter((flag) => flag.join(" ").toLowerCase().includes(wanted));
  return (
    <Page title="Flags" loaded={flags} aside={<Filter value={filter} onChange={setFilter} what="flags" />}>
      {all.length > 0 && shown.length === 0 && <p class="muted">No flag matches the filter.</p>}
      <Facts facts={Object.fromEntries(shown)} />
    </Page>
  );
}
