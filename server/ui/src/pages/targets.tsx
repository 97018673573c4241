// Scrape targets of the Prometheus servers behind the endpoints.

import { useState } from "preact/hooks";
import type { Labels, Target, Targets } from "../api";
import { Badge, Filter, LabelSet, Page, textOf, useApi } from "../parts";
import { ago, formatDuration } from "../time";

export function TargetsPage() {
  const targets = useApi<Targets>("targets");
  const [filter, setFilter] = useState("");
  const [onlyDown, setOnlyDown] = useState(false);
  const active = targets.answer?.data.activeTargets ?? [];
  const wanted = filter.toLowerCase();
  const shown = active.filter(
    (target) =>
      (!onlyDown || target.health !== "up") &&
      `${target.scrapeUrl} ${textOf(target.labels)}`.toLowerCase().includes(wanted),
  );
  const pools = Map.groupBy(shown, (target) => target.scrapePool);
  const aside = (
    <>
      <Filter value={filter} onChange={setFilter} what="targets" />
      <label class="check">
        <input type="checkbox" checked={onlyDown} onChange={() => setOnlyDown(!onlyDown)} /> only unhealthy
      </label>
    </>
  );
  return (
    <Page title="Targets" loaded={targets} aside={aside}>
      {active.length === 0 && <p class="muted">No endpoint has targets.</p>}
      {active.length > 0 && shown.length === 0 && <p class="muted">No target matches the filter.</p>}
      {[...pools].map(([pool, members]) => (
        <div key={pool}>
          <h2>
            {pool} <small class="muted">{members.filter((target) => target.health === "up").length}/{members.length} up</small>
          </h2>
          <TargetTable targets={members} />
        </div>
      ))}
    </Page>
  );
}

/** Labels as they were discovered. There may be many, so that those of a target are drawn once they are looked at. */
function Discovered({ labels }: { labels: Labels }) {
  const [open, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary class="muted">discovered labels</summary>
      {open && <LabelSet labels={labels} />}
    </details>
  );
}

function TargetTable({ targets }: { targets: Target[] }) {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>Target</th>
            <th>Health</th>
            <th>Labels</th>
            <th>Last scrape</th>
            <th class="num">Took</th>
          </tr>
        </thead>
        <tbody>
          {targets.map((target) => (
            <tr key={target.scrapeUrl + JSON.stringify(target.labels)}>
              <td class="mono">
                {/^https?:/.test(target.scrapeUrl) ? <a href={target.scrapeUrl}>{target.scrapeUrl}</a> : target.scrapeUrl}
              </td>
              <td>
                <Badge kind={target.health === "up" ? "good" : target.health === "down" ? "bad" : "plain"}>
                  {target.health}
                </Badge>
                {target.lastError && <div class="reason">{target.lastError}</div>}
              </td>
              <td>
                <LabelSet labels={target.labels} />
                <Discovered labels={target.discoveredLabels} />
              </td>
              <td>{ago(target.lastScrape)}</td>
              <td class="num">{formatDuration(target.lastScrapeDuration)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
