// Values at one time, or the samples of a range, as a table.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { LabelSet, ROWS_SHOWN_MAX } from "../parts";
import { seriesName, type HistogramValue, type Instant, type Labels, type QueryData, type Series } from "../api";
import { formatSampleTime } from "../time";

/** Rows of a series: one for each sample of a range. */
function rowsOf(one: Instant | Series): number {
  const { values, histograms } = one as Series;
  return Math.max(1, (values?.length ?? 0) + (histograms?.length ?? 0));
}

/** The series with the first `most` samples. */
function firstRows(all: (Instant | Series)[], most: number): (Instant | Series)[] {
  let rest = most;
  const cut = <T,>(samples: T[] | undefined): T[] => {
    const taken = (samples ?? []).slice(0, rest);
    rest -= taken.length;
    return taken;
  };
  const found: (Instant | Series)[] = [];
  for (const one of all) {
    if (rest <= 0) break;
    if (rowsOf(one) <= rest) {
      rest -= rowsOf(one);
      found.push(one);
    } else {
      const { metric, values, histograms } = one as Series;
      found.push({ metric, values: cut(values), histograms: cut(histograms) });
    }
  }
  return found;
}

/** `askedAt` tells answers apart. */
export function Table({ data, askedAt, tookMs }: { data: QueryData; askedAt: number; tookMs: number }) {
  // Not the answer itself, which would be held until another one is asked for all.
  const [whole, setWhole] = useState<number>();
  if (data.resultType === "scalar" || data.resultType === "string") {
    return (
      <Rows count={1} tookMs={tookMs}>
        <tr>
          <td>{data.resultType}</td>
          <td class="num">{data.result[1]}</td>
        </tr>
      </Rows>
    );
  }
  if (data.result.length === 0) return <p class="muted">The query answers with no series.</p>;
  const all: (Instant | Series)[] = data.result;
  const count = all.reduce((sum, one) => sum + rowsOf(one), 0);
  const rows = (whole === askedAt ? all : firstRows(all, ROWS_SHOWN_MAX)).map((one) => (
    <tr key={seriesName(one.metric)}>
      <td>
        <Name metric={one.metric} />
      </td>
      <td class="num">{"values" in one || "histograms" in one ? <Samples series={one as Series} /> : <Value one={one as Instant} />}</td>
    </tr>
  ));
  return (
    <Rows count={count} tookMs={tookMs} onShowAll={whole === askedAt ? undefined : () => setWhole(askedAt)}>
      {rows}
    </Rows>
  );
}

function Rows(props: { count: number; tookMs: number; onShowAll?: () => void; children: ComponentChildren }) {
  const { count, onShowAll } = props;
  const isCut = onShowAll && count > ROWS_SHOWN_MAX;
  return (
    <>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>Series</th>
              <th class="num">Value</th>
            </tr>
          </thead>
          <tbody>{props.children}</tbody>
        </table>
      </div>
      <p class="muted">
        {count} rows{isCut && `, the first ${ROWS_SHOWN_MAX} shown`} · {Math.round(props.tookMs)} ms{" "}
        {isCut && <button onClick={onShowAll}>Show all {count}</button>}
      </p>
    </>
  );
}

function Name({ metric }: { metric: Labels }) {
  const { __name__: name, ...labels } = metric;
  return (
    <>
      {name && <b class="mono">{name}</b>} {Object.keys(labels).length > 0 ? <LabelSet labels={labels} /> : !name && "{}"}
    </>
  );
}

function Value({ one }: { one: Instant }) {
  return one.histogram ? <Histogram value={one.histogram[1]} /> : <>{one.value?.[1]}</>;
}

function Samples({ series }: { series: Series }) {
  return (
    <>
      {(series.values ?? []).map(([time, value]) => (
        <div key={time}>
          {value} <span class="muted">@{formatSampleTime(time)}</span>
        </div>
      ))}
      {(series.histograms ?? []).map(([time, value]) => (
        <div key={time}>
          <Histogram value={value} /> <span class="muted">@{formatSampleTime(time)}</span>
        </div>
      ))}
    </>
  );
}

const BOUNDS = ["(]", "[)", "()", "[]"];

function Histogram({ value }: { value: HistogramValue }) {
  const most = Math.max(...(value.buckets ?? []).map((bucket) => Number(bucket[3])), 0);
  return (
    <details class="histogram">
      <summary>
        count {value.count}, sum {value.sum}
      </summary>
      {(value.buckets ?? []).map(([rule, low, high, count]) => (
        <div class="bucket" key={low}>
          <span class="mono">
            {BOUNDS[rule]?.[0]}
            {low}, {high}
            {BOUNDS[rule]?.[1]}
          </span>
          <meter value={Number(count)} max={most} />
          <span>{count}</span>
        </div>
      ))}
    </details>
  );
}
