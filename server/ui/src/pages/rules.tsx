// Recording and alerting rules by group.

import { useState } from "preact/hooks";
import { graphOf, seriesName, type Rule, type RuleGroup } from "../api";
import { Badge, Filter, LabelSet, Message, Page, useApi } from "../parts";
import { ago, formatDuration } from "../time";
import { AlertTable, Annotations } from "./alerts";

export function RulesPage() {
  const rules = useApi<{ groups: RuleGroup[] | null }>("rules");
  const [filter, setFilter] = useState("");
  const groups = rules.answer?.data.groups ?? [];
  const wanted = filter.toLowerCase();
  const matches = (rule: Rule) => `${rule.name} ${rule.query} ${JSON.stringify(rule.labels ?? {})}`.toLowerCase().includes(wanted);
  return (
    <Page title="Rules" loaded={rules} aside={<Filter value={filter} onChange={setFilter} what="rules" />}>
      {groups.length === 0 && <p class="muted">No endpoint has rules.</p>}
      {groups.length > 0 && !groups.some((group) => group.rules.some(matches)) && (
        <p class="muted">No rule matches the filter.</p>
      )}
      {groups.map((group) => {
        const shown = group.rules.filter(matches);
        if (shown.length === 0) return null;
        return (
          <div class="card" key={group.file + group.name}>
            <h2>
              {group.name}{" "}
              <small class="muted">
                {group.file} · every {formatDuration(group.interval)}
                <Evaluated at={group.lastEvaluation} seconds={group.evaluationTime} />
              </small>
            </h2>
            {shown.map((rule) => (
              <RuleView key={rule.name + rule.query} rule={rule} />
            ))}
          </div>
        );
      })}
    </Page>
  );
}

/** When that was, and how long it took. */
function Evaluated({ at, seconds }: { at: string | undefined; seconds: number | undefined }) {
  if (!at) return null;
  return <> · evaluated {ago(at)}{seconds ? ` in ${formatDuration(seconds)}` : ""}</>;
}

/** The series that a rule writes. */
function writtenBy(rule: Rule): string {
  return seriesName(rule.type === "alerting" ? { __name__: "ALERTS", alertname: rule.name } : { __name__: rule.name });
}

function RuleView({ rule }: { rule: Rule }) {
  const health = rule.health === "ok" ? "good" : rule.health === "err" ? "bad" : "plain";
  const state = rule.state === "firing" ? "bad" : rule.state === "pending" ? "soso" : "good";
  return (
    <details class="rule">
      <summary>
        <Badge kind={health}>{rule.health}</Badge> <b>{rule.name}</b> <span class="muted">{rule.type}</span>{" "}
        {rule.type === "alerting" && <Badge kind={state}>{rule.state}</Badge>}
      </summary>
      <pre>
        <a href={graphOf(rule.query)}>{rule.query}</a>
      </pre>
      <p>
        writes <a class="mono" href={graphOf(writtenBy(rule))}>{writtenBy(rule)}</a>
        {rule.duration ? ` · for ${formatDuration(rule.duration)}` : ""}
        {rule.keepFiringFor ? ` · keeps firing for ${formatDuration(rule.keepFiringFor)}` : ""}
        <Evaluated at={rule.lastEvaluation} seconds={rule.evaluationTime} />
      </p>
      {rule.labels && Object.keys(rule.labels).length > 0 && <LabelSet labels={rule.labels} />}
      <Annotations of={rule.annotations} />
      {rule.lastError && <Message kind="error">{rule.lastError}</Message>}
      {rule.alerts && rule.alerts.length > 0 && <AlertTable alerts={rule.alerts} />}
    </details>
  );
}
