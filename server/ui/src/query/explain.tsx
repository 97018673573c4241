// The operators that a query becomes, with what each of them cost.

import type { Operator } from "../api";

export function Explain(props: { plan: Operator | undefined; analysis: Operator | undefined; tookMs: number }) {
  const { plan, analysis, tookMs } = props;
  const root = analysis?.name ? analysis : plan;
  if (!root) return <p class="muted">The server gives no plan for this query.</p>;
  const total = Math.max(microseconds(root.executionTime), 1);
  return (
    <>
      <div class="scroll">
        <table class="plan">
          <thead>
            <tr>
              <th>Operator</th>
              <th class="num" title="With that of its inputs, unless they stream into it; of several cores the sum">
                Time
              </th>
              <th class="num" title="Samples taken from series by this operator and those below it">
                Read
              </th>
              <th class="num" title="Most samples that one of them took at once">
                Peak
              </th>
              <th class="num" title="Samples that the operator gave">
                Samples
              </th>
              <th class="num" title="Series that it gave">
                Series
              </th>
              <th class="num" title="Bytes of what it gave">
                Bytes
              </th>
            </tr>
          </thead>
          <tbody>
            <Rows operator={root} depth={0} total={total} />
          </tbody>
        </table>
      </div>
      <p class="muted">
        planned and run in {Math.round(tookMs)} ms; where several cores work on an operator, its time is the sum of theirs
      </p>
    </>
  );
}

function Rows({ operator, depth, total }: { operator: Operator; depth: number; total: number }) {
  const share = Math.min(1, microseconds(operator.executionTime) / total);
  return (
    <>
      <tr>
        <td style={{ paddingLeft: `${0.6 + depth * 1.4}rem` }}>
          {depth > 0 && <span class="muted">└ </span>}
          <span class="mono">{operator.name}</span>
        </td>
        <td class="num">
          {operator.executionTime && <meter value={share} max={1} title={`${Math.round(share * 100)} %`} />} {operator.executionTime}
        </td>
        <td class="num">{operator.totalSamples?.toLocaleString("en")}</td>
        <td class="num">{operator.peakSamples?.toLocaleString("en")}</td>
        <td class="num">{operator.samples?.toLocaleString("en")}</td>
        <td class="num">{operator.series?.toLocaleString("en")}</td>
        <td class="num">{operator.bytes?.toLocaleString("en")}</td>
      </tr>
      {(operator.children ?? []).map((child, at) => (
        <Rows key={at} operator={child} depth={depth + 1} total={total} />
      ))}
    </>
  );
}

/** Microseconds of a Go duration such as "1.5ms" or "2m3.1s". */
function microseconds(text: string | undefined): number {
  const sizes: Record<string, number> = { ns: 1e-3, us: 1, "µs": 1, ms: 1e3, s: 1e6, m: 6e7, h: 3.6e9 };
  let sum = 0;
  for (const [, amount, unit] of (text ?? "").matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g)) sum += Number(amount) * sizes[unit!]!;
  return sum;
}
