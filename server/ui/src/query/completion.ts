// Completion of PromQL from the API. Names that are no identifiers, as OpenTelemetry has them, are written in quotes.

import { insertCompletionText, pickedCompletion } from "@codemirror/autocomplete";
import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import { syntaxTree } from "@codemirror/language";
import type { EditorState } from "@codemirror/state";
import type { EditorView } from "@codemirror/view";
import type { SyntaxNode } from "@lezer/common";
import { newCompleteStrategy, type CompleteStrategy } from "@prometheus-io/codemirror-promql";
import { HTTPPrometheusClient } from "@prometheus-io/codemirror-promql/dist/esm/client/prometheus";
import {
  GroupingLabels,
  Identifier,
  LabelMatchers,
  LineComment,
  QuotedLabelMatcher,
  QuotedLabelName,
  StringLiteral,
} from "@prometheus-io/lezer-promql";
import { LABEL_NAME, METRIC_NAME, root } from "../api";

type FetchFn = (input: RequestInfo, init?: RequestInit) => Promise<Response>;

/** What is typed of a name with dots; PromQL has none before it is in quotes. */
const DOTTED = /(?<![\w:."'`])[a-zA-Z_:][\w:]*\.[\w:.]*/;

/** For so long what was answered is not asked for again. */
const KEPT_MS = 300_000;

/** What completion asks. The cache that comes with it takes the labels of one metric for those of all. */
class Client extends HTTPPrometheusClient {
  private readonly kept = new Map<string, { at: number; answer: Promise<unknown> }>();

  override labelNames(metric = "") {
    return this.once(`names of ${metric}`, () => super.labelNames(metric));
  }

  /** The name of a label may hold what divides an address. */
  override labelValues(label: string, metric = "") {
    return this.once(`values of ${label} of ${metric}`, () => super.labelValues(encodeURIComponent(label), metric));
  }

  override metricMetadata() {
    return this.once("metadata", () => super.metricMetadata());
  }

  private once<T extends object>(what: string, ask: () => Promise<T>): Promise<T> {
    for (const [other, { at }] of this.kept) if (Date.now() - at >= KEPT_MS) this.kept.delete(other);
    const known = this.kept.get(what);
    if (known) return known.answer as Promise<T>;
    const answer = ask().then((found) => {
      // So a failure is answered, too.
      if (Object.keys(found).length === 0) this.kept.delete(what);
      return found;
    });
    this.kept.set(what, { at: Date.now(), answer });
    return answer;
  }
}

/** Completes as Prometheus' editor does, which writes every name as it is. */
export class QuotingComplete implements CompleteStrategy {
  private readonly client: Client;
  private readonly plain: CompleteStrategy;

  constructor(fetchFn: FetchFn) {
    this.client = new Client({ url: root, fetchFn });
    this.plain = newCompleteStrategy({ remote: this.client });
  }

  destroy() {
    this.client.destroy();
  }

  async promQL(context: CompletionContext): Promise<CompletionResult | null> {
    const { state, pos } = context;
    const node = syntaxTree(state).resolve(pos, -1);
    if (node.type.id === StringLiteral && node.parent?.type.id === QuotedLabelName) return this.inQuotes(node, pos);
    const dotted = context.matchBefore(DOTTED);
    if (!dotted || [StringLiteral, LineComment].includes(node.type.id)) {
      const found = await this.plain.promQL(context);
      return found && quoting(found, labelsAround(node) !== null);
    }
    const isLabel = labelsAround(syntaxTree(state).resolve(dotted.from, 1)) !== null;
    const names = isLabel ? await this.client.labelNames() : await this.client.metricNames();
    return quoting({ from: dotted.from, to: pos, options: options(names) }, isLabel);
  }

  /** Names where the quotes are there already. */
  private async inQuotes(literal: SyntaxNode, pos: number): Promise<CompletionResult | null> {
    if (pos <= literal.from || pos >= literal.to) return null;
    const [labels, metrics] = await Promise.all([
      this.client.labelNames(),
      isMetricWanted(literal) ? this.client.metricNames() : [],
    ]);
    const others = labels.filter((name) => name !== "__name__");
    const found = [...options(metrics), ...options(others, { detail: "label", boost: -1 })];
    const apply = (view: EditorView, one: Completion, from: number, to: number) =>
      write(view, one, JSON.stringify(one.label), [from - 1, to + 1]);
    return {
      from: literal.from + 1,
      to: literal.to - 1,
      options: found.map((one) => ({ ...one, apply })),
      validFor: /^[^"'`]*$/,
    };
  }
}

const options = (names: string[], more: Partial<Completion> = {}): Completion[] =>
  names.map((label) => ({ label, type: "constant", ...more }));

/** The list of labels or matchers that `node` is part of. */
function labelsAround(node: SyntaxNode): SyntaxNode | null {
  let at: SyntaxNode | null = node;
  while (at && at.type.id !== GroupingLabels && at.type.id !== LabelMatchers) at = at.parent;
  return at;
}

/** Whether a name in quotes may be that of the metric: no other names it, and no operator makes it a label's. */
function isMetricWanted(literal: SyntaxNode): boolean {
  const name = literal.parent!;
  const list = labelsAround(name);
  if (list?.type.id !== LabelMatchers || name.parent?.type.id === QuotedLabelMatcher) return false;
  return !list.parent?.getChild(Identifier) && list.getChildren(QuotedLabelName).every((other) => other.from === name.from);
}

/** The same with names that are no identifiers in quotes. */
function quoting(found: CompletionResult, isLabel: boolean): CompletionResult {
  const plain = isLabel ? LABEL_NAME : METRIC_NAME;
  const isQuoted = (one: Completion) => one.type === "constant" && !plain.test(one.label);
  const names = found.options.filter(isQuoted).map((one) => one.label.toLowerCase());
  if (names.length === 0) return found;
  const apply = isLabel ? writeLabel : writeMetric;
  // What has been typed may go on as one of these, unlike an identifier.
  const isTyped = (text: string) => text !== "" && names.some((name) => name.startsWith(text.toLowerCase()));
  const validFor = (text: string) => METRIC_NAME.test(text) || isTyped(text);
  return { ...found, validFor, options: found.options.map((one) => (isQuoted(one) ? { ...one, apply } : one)) };
}

function write(view: EditorView, one: Completion, text: string, [from, to]: [number, number]) {
  view.dispatch({ ...insertCompletionText(view.state, text, from, to), annotations: pickedCompletion.of(one) });
}

function writeLabel(view: EditorView, one: Completion, from: number, to: number) {
  write(view, one, JSON.stringify(one.label), [from, to]);
}

/** The name of a metric in quotes is the first within the braces. */
function writeMetric(view: EditorView, one: Completion, from: number, to: number) {
  const name = JSON.stringify(one.label);
  const [open, rest] = bracesAfter(view.state, to);
  if (open === 0) return write(view, one, `{${name}}`, [from, to]);
  write(view, one, rest === "}" ? `{${name}` : `{${name}, `, [from, to + open]);
}

/** Letters up to the end of an opening brace at `pos` with the blanks around it, none where there is none, and the letter
 * after them. */
function bracesAfter(state: EditorState, pos: number): [number, string] {
  const [, open, rest] = /^(\s*\{\s*)(.?)/s.exec(state.sliceDoc(pos)) ?? [];
  return [open?.length ?? 0, rest ?? ""];
}
