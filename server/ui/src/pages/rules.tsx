// Recording and alerting rules by group.

import { useState } from "preact/hooks";
import { graphOf, type Rule, type RuleGroup } from "../api";
import { Badge, Filter, LabelSet, Message, Page, useApi } from "../parts";
import { ago, formatDuration } from "../time";
import { AlertTable } from "./alerts";

export function RulesPage() {
  const rules = useApi<{ groups: RuleGroup[] | null }>("rules");
  const [filter, setFilter] = useState("");
  const groups = rules.answer?.data.groups ?? [];
  const wanted = filter.toLowerCase();
  const matches = (rule: Rule) => `${rule.name} ${rule.query}`.toLowerCase().includes(wanted);
  return (
    <Page title="Rules" loaded={rules} aside={<Filter value={filter} onChange={setFilter} what="rules" />}>
      {groups.length === 0 && <p class="muted">No endpoint has rules.</p>}
      {groups.map((group) => {
        const shown = group.rules.filter(matches);
        if (shown.length === 0) return null;
        return (
          <div class="card" key={group.file + group.name}>
            <h2>
              {group.name} <small class="muted">{group.file} · every {formatDuration(group.interval)}</small>
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
      {rule.labels && Object.keys(rule.labels).length > 0 && <LabelSet labels={rule.labels} />}
      {rule.duration ? <p>for {formatDuration(rule.duration)}</p> : null}
      {rule.lastEvaluation && <p class="muted">evaluated {ago(rule.lastEvaluation)}</p>}
      {rule.lastError && <Message kind="error">{rule.lastError}</Message>}
      {rule.alerts && rule.alerts.length > 0 && <AlertTable alerts={rule.alerts} />}
    </details>
  );
}
