// Alerts that are pending or firing.

import { useState } from "preact/hooks";
import { graphOf, type Alert, type Labels, type RuleGroup } from "../api";
import { Badge, Filter, LabelSet, Page, ROWS_SHOWN_MAX, textOf, useApi } from "../parts";
import { ago } from "../time";

const STATES = ["firing", "pending"];

export function AlertsPage() {
  // Not from `alerts`, where an alert does not say its rule: those of several rules may have equal labels.
  const rules = useApi<{ groups: RuleGroup[] | null }>("rules", { type: "alert" });
  const [filter, setFilter] = useState("");
  const [state, setState] = useState("");
  const queries = queriesOf(rules.answer?.data.groups ?? []);
  const wanted = filter.toLowerCase();
  const isShown = (alert: Alert) =>
    (state === "" || alert.state === state) &&
    `${textOf(alert.labels)} ${textOf(alert.annotations)}`.toLowerCase().includes(wanted);
  const shown = [...queries.keys()].filter(isShown);
  const aside = (
    <>
      <Filter value={filter} onChange={setFilter} what="alerts" />
      <select aria-label="State" value={state} onChange={(event) => setState(event.currentTarget.value)}>
        <option value="">all states</option>
        {STATES.map((name) => (
          <option value={name} key={name}>{name}</option>
        ))}
      </select>
    </>
  );
  return (
    <Page title="Alerts" loaded={rules} aside={aside}>
      {shown.length === 0 ? (
        <p class="muted">{queries.size === 0 ? "No alert is pending or firing." : "No alert matches the filter."}</p>
      ) : (
        <AlertTable alerts={shown} queries={queries} />
      )}
    </Page>
  );
}

/** All alerts, each with the expression of its rule. */
function queriesOf(groups: RuleGroup[]): Map<Alert, string> {
  const rules = groups.flatMap((group) => group.rules);
  return new Map(rules.flatMap((rule) => (rule.alerts ?? []).map((alert) => [alert, rule.query] as const)));
}

/** Whether an annotation is an address and nothing else; that of a rule may still be a template. */
const isAddress = (text: string) => /^https?:\/\/\S+$/i.test(text) && !text.includes("{{");

export function Annotations({ of }: { of: Labels | undefined }) {
  return (
    <>
      {Object.entries(of ?? {}).map(([name, text]) => (
        <div key={name}>
          <span class="muted">{name}:</span>{" "}
          {isAddress(text) ? <a href={text} target="_blank" rel="noopener">{text}</a> : text}
        </div>
      ))}
    </>
  );
}

export function AlertTable({ alerts, queries }: { alerts: Alert[]; queries?: Map<Alert, string> }) {
  const [whole, setWhole] = useState(false);
  const link = (query: string | undefined) => query && <a class="mono" href={graphOf(query)}>{query}</a>;
  return (
    <>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>State</th>
              <th>Labels</th>
              <th>Annotations</th>
              <th>Active</th>
              <th class="num">Value</th>
            </tr>
          </thead>
          <tbody>
            {(whole ? alerts : alerts.slice(0, ROWS_SHOWN_MAX)).map((alert, at) => (
              <tr key={at}>
                <td>
                  <Badge kind={alert.state === "firing" ? "bad" : "soso"}>{alert.state}</Badge>
                </td>
                <td>
                  <LabelSet labels={alert.labels} />
                  <div>{link(queries?.get(alert))}</div>
                </td>
                <td>
                  <Annotations of={alert.annotations} />
                </td>
                <td>{alert.activeAt && <time dateTime={alert.activeAt} title={alert.activeAt}>{ago(alert.activeAt)}</time>}</td>
                <td class="num">{alert.value}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {!whole && alerts.length > ROWS_SHOWN_MAX && (
        <p class="muted">
          {alerts.length} alerts, the first {ROWS_SHOWN_MAX} shown{" "}
          <button onClick={() => setWhole(true)}>Show all {alerts.length}</button>
        </p>
      )}
    </>
  );
}
