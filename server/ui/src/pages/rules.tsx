// Recording and alerting rules by group.

import { useState } from "preact/hooks";
import { graphOf, seriesName, type Rule, type RuleGroup } from "../api";
import { Badge, Filter, LabelSet, Message, Page, textOf, useApi } from "../parts";
import { ago, formatDuration } from "../time";
import { AlertTable, Annotations } from "./alerts";

export function RulesPage() {
  const rules = useApi<{ groups: RuleGroup[] | null }>("rules");
  const [filter, setFilter] = useState("");
  const groups = rules.answer?.data.groups ?? [];
  const wanted = filter.toLowerCase();
  const matches = (group: RuleGroup, rule: Rule) => textOfRule(group, rule).toLowerCase().includes(wanted);
  return (
    <Page title="Rules" loaded={rules} aside={<Filter value={filter} onChange={setFilter} what="rules" />}>
      {groups.length === 0 && <p class="muted">No endpoint has rules.</p>}
      {groups.length > 0 && !groups.some((group) => group.rules.some((rule) => matches(group, rule))) && (
        <p class="muted">No rule matches the filter.</p>
      )}
      {groups.map((group) => {
        const shown = group.rules.filter((rule) => matches(group, rule));
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
              <RuleView key={identityOf(rule)} rule={rule} />
            ))}
          </div>
        );
      })}
    </Page>
  );
}

/** A rule as the filter looks at it. */
function textOfRule(group: RuleGroup, rule: Rule): string {
  const { name, query, labels, health, lastError } = rule;
  return [group.name, group.file, name, query, textOf(labels), health, lastError].join(" ");
}

/** What tells a rule from the others of its group. */
const identityOf = ({ type, name, labels, query, duration }: Rule) => JSON.stringify([type, name, labels, query, duration]);

/** When that was, and how long it took. */
function Evaluated({ at, seconds }: { at: string | undefined; seconds: number | undefined }) {
  if (!at) return null;
  return <> · evaluated {ago(at)}{seconds ? ` in ${formatDuration(seconds)}` : ""}</>;
}

/** The series that a rule writes. */
function writtenBy(rule: Rule): string {
  return seriesName(rule.type === "alerting" ? { __name__: "ALERTS", alertname: rule.name } : { __name__: rule.name });
}

/** There may be many alerts, so that those of a rule are drawn once they are looked at. */
function RuleView({ rule }: { rule: Rule }) {
  const [open, setOpen] = useState(false);
  const health = rule.health === "ok" ? "good" : rule.health === "err" ? "bad" : "plain";
  const state = rule.state === "firing" ? "bad" : rule.state === "pending" ? "soso" : "good";
  return (
    <details class="rule" onToggle={(event) => setOpen(event.currentTarget.open)}>
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
      {open && rule.alerts && rule.alerts.length > 0 && <AlertTable alerts={rule.alerts} />}
    </details>
  );
}
