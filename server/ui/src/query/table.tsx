// Values at one time, or the samples of a range, as a table.

import type { ComponentChildren } from "preact";
import { LabelSet } from "../parts";
import { seriesName, type HistogramValue, type Instant, type Labels, type QueryData, type Series } from "../api";
import { formatTime } from "../time";

const ROWS_SHOWN_MAX = 10_000;

export function Table({ data, tookMs }: { data: QueryData; tookMs: number }) {
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
  const rows = all.slice(0, ROWS_SHOWN_MAX).map((one) => (
    <tr key={seriesName(one.metric)}>
      <td>
        <Name metric={one.metric} />
      </td>
      <td class="num">{"values" in one || "histograms" in one ? <Samples series={one as Series} /> : <Value one={one as Instant} />}</td>
    </tr>
  ));
  return (
    <Rows count={data.result.length} tookMs={tookMs}>
      {rows}
    </Rows>
  );
}

function Rows(props: { count: number; tookMs: number; children: ComponentChildren }) {
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
        {props.count} rows{props.count > ROWS_SHOWN_MAX && `, the first ${ROWS_SHOWN_MAX} shown`} · {Math.round(props.tookMs)} ms
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
          {value} <span class="muted">@{formatTime(time)}</span>
        </div>
      ))}
      {(series.histograms ?? []).map(([time, value]) => (
        <div key={time}>
          <Histogram value={value} /> <span class="muted">@{formatTime(time)}</span>
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
