// Alerts that are pending or firing.

import { useState } from "preact/hooks";
import type { Alert } from "../api";
import { Badge, Filter, LabelSet, Page, useApi } from "../parts";
import { ago } from "../time";

export function AlertsPage() {
  const alerts = useApi<{ alerts: Alert[] | null }>("alerts");
  const [filter, setFilter] = useState("");
  const all = alerts.answer?.data.alerts ?? [];
  const shown = all.filter((alert) => JSON.stringify(alert.labels).toLowerCase().includes(filter.toLowerCase()));
  return (
    <Page title="Alerts" loaded={alerts} aside={<Filter value={filter} onChange={setFilter} what="alerts" />}>
      {all.length === 0 ? (
        <p class="muted">No alert is pending or firing.</p>
      ) : (
        <AlertTable alerts={shown} />
      )}
    </Page>
  );
}

export function AlertTable({ alerts }: { alerts: Alert[] }) {
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
