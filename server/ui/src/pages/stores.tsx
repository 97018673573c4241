// The endpoints that are asked: what they hold, and whether they answer.

import { Badge, LabelSet, Page, useApi } from "../parts";
import type { Endpoint } from "../api";
import { ago, formatRangeMs, zoneName } from "../time";

export function StoresPage() {
  const stores = useApi<Record<string, Endpoint[] | null>>("stores");
  const groups = Object.entries(stores.answer?.data ?? {}).filter(([, endpoints]) => endpoints?.length);
  return (
    <Page title="Stores" loaded={stores}>
      {groups.length === 0 && <p class="muted">No endpoint is known. Name them with --endpoint.</p>}
      {groups.map(([kind, endpoints]) => (
        <div key={kind}>
          <h2>{kind}</h2>
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th>Endpoint</th>
                  <th>Health</th>
                  <th>External labels</th>
                  <th>From ({zoneName()})</th>
                  <th>To ({zoneName()})</th>
                  <th>Last check</th>
                </tr>
              </thead>
              <tbody>
                {endpoints!.map((endpoint) => (
                  <Row key={endpoint.name} endpoint={endpoint} />
                ))}
              </tbody>
            </table>
          </div>
        </div>
      ))}
    </Page>
  );
}

function Row({ endpoint }: { endpoint: Endpoint }) {
  const [from, to] = formatRangeMs(endpoint.minTime, endpoint.maxTime);
  return (
    <tr>
      <td class="mono">{endpoint.name}</td>
      <td>
        <Badge kind={endpoint.lastError ? "bad" : "good"}>{endpoint.lastError ? "down" : "up"}</Badge>
        {endpoint.lastError && <div class="reason">{endpoint.lastError}</div>}
      </td>
      <td>
        {(endpoint.labelSets ?? []).map((labels) => (
          <div key={JSON.stringify(labels)}>
            <LabelSet labels={labels} />
          </div>
        ))}
      </td>
      <td class="num">{from}</td>
      <td class="num">{to}</td>
      <td>{ago(endpoint.lastCheck)}</td>
    </tr>
  );
}
