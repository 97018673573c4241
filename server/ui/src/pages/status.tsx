// What runs here: build, run time, flags, and the cardinality of a head where there is one.

import { useState } from "preact/hooks";
import { component, showsBucket } from "../api";
import { Facts, Filter, Page, useApi } from "../parts";

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
          <Facts facts={head.headStats ?? {}} />
          <Counts title="Series by metric name" counts={head.seriesCountByMetricName} />
          <Counts title="Values by label" counts={head.labelValueCountByLabelName} />
          <Counts title="Bytes by label" counts={head.memoryInBytesByLabelName} />
          <Counts title="Series by label and value" counts={head.seriesCountByLabelValuePair} />
        </Page>
      ))}
    </>
  );
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
  const shown = Object.entries(flags.answer?.data ?? {}).filter(([name, value]) => `${name} ${value}`.includes(filter));
  return (
    <Page title="Flags" loaded={flags} aside={<Filter value={filter} onChange={setFilter} what="flags" />}>
      <Facts facts={Object.fromEntries(shown.map(([name, value]) => [`--${name}`, value]))} />
    </Page>
  );
}
