// Alerts that are pending or firing.

import { useState } from "preact/hooks";
import { graphOf, type Alert, type RuleGroup } from "../api";
import { Badge, Filter, LabelSet, Page, useApi } from "../parts";
import { ago } from "../time";

export function AlertsPage() {
  const alerts = useApi<{ alerts: Alert[] | null }>("alerts");
  const rules = useApi<{ groups: RuleGroup[] | null }>("rules", { type: "alert" });
  const [filter, setFilter] = useState("");
  const reload = () => {
    alerts.reload();
    rules.reload();
  };
  const all = alerts.answer?.data.alerts ?? [];
  const shown = all.filter((alert) => JSON.stringify(alert.labels).toLowerCase().includes(filter.toLowerCase()));
  return (
    <Page title="Alerts" loaded={{ ...alerts, reload }} aside={<Filter value={filter} onChange={setFilter} what="alerts" />}>
      {all.length === 0 ? (
        <p class="muted">No alert is pending or firing.</p>
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
                {Object.entries(alert.annotations ?? {}).map(([name, text]) => (
                  <div key={name}>
                    <span class="muted">{name}:</span> {text}
                  </div>
                ))}
              </td>
              <td>{alert.activeAt ? ago(alert.activeAt) : ""}</td>
              <td class="num">{alert.value}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
