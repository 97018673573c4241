// Alerts that are pending or firing.

import { useState } from "preact/hooks";
import { graphOf, type Alert, type Labels, type RuleGroup } from "../api";
import { Badge, Filter, LabelSet, Page, useApi } from "../parts";
import { ago } from "../time";

const STATES = ["firing", "pending"];

export function AlertsPage() {
  const alerts = useApi<{ alerts: Alert[] | null }>("alerts");
  const rules = useApi<{ groups: RuleGroup[] | null }>("rules", { type: "alert" });
  const [filter, setFilter] = useState("");
  const [state, setState] = useState("");
  const reload = () => {
    alerts.reload();
    rules.reload();
  };
  const all = alerts.answer?.data.alerts ?? [];
  const isShown = (alert: Alert) =>
    (state === "" || alert.state === state) && JSON.stringify(alert.labels).toLowerCase().includes(filter.toLowerCase());
  const shown = all.filter(isShown);
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
    <Page title="Alerts" loaded={{ ...alerts, reload }} aside={aside}>
      {shown.length === 0 ? (
        <p class="muted">{all.length === 0 ? "No alert is pending or firing." : "No alert matches the filter."}</p>
      ) : (
        <AlertTable alerts={shown} queries={queriesOf(rules.answer?.data.groups ?? [])} />
      )}
    </Page>
  );
}

const nameOf = (alert: Alert) => JSON.stringify(Object.entries(alert.labels).sort());

/** Expressions of alerts by their labels; an alert does not say its own. */
function queriesOf(groups: RuleGroup[]): Map<string, string> {
  const rules = groups.flatMap((group) => group.rules);
  return new Map(rules.flatMap((rule) => (rule.alerts ?? []).map((alert) => [nameOf(alert), rule.query] as const)));
}

export function Annotations({ of }: { of: Labels | undefined }) {
  return (
    <>
      {Object.entries(of ?? {}).map(([name, text]) => (
        <div key={name}>
          <span class="muted">{name}:</span> {text}
        </div>
      ))}
    </>
  );
}

export function AlertTable({ alerts, queries }: { alerts: Alert[]; queries?: Map<string, string> }) {
  const link = (query: string | undefined) => query && <a class="mono" href={graphOf(query)}>{query}</a>;
  return (
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
          {alerts.map((alert) => (
            <tr key={JSON.stringify(alert.labels)}>
              <td>
                <Badge kind={alert.state === "firing" ? "bad" : "soso"}>{alert.state}</Badge>
              </td>
              <td>
                <LabelSet labels={alert.labels} />
                <div>{link(queries?.get(nameOf(alert)))}</div>
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
  );
}
