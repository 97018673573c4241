// A PromQL editor: highlighting, completion from the API, linting.

import { autocompletion, closeBrackets, closeBracketsKeymap, closeCompletion, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, insertNewlineAndIndent, isolateHistory } from "@codemirror/commands";
import { HighlightStyle, bracketMatching, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { lintKeymap } from "@codemirror/lint";
import { EditorState, Prec } from "@codemirror/state";
import { EditorView, keymap, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { PromQLExtension } from "@prometheus-io/codemirror-promql";
import { useEffect, useRef } from "preact/hooks";
import { QuotingComplete } from "./completion";

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], color: "var(--code-keyword)" },
  { tag: [tags.function(tags.variableName), tags.name], color: "var(--code-name)" },
  { tag: tags.labelName, color: "var(--code-label)" },
  { tag: tags.string, color: "var(--code-string)" },
  { tag: tags.number, color: "var(--code-number)" },
  { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
]);

type Props = {
  value: string;
  /** Sent with what completion asks. */
  headers: Record<string, string>;
  onChange: (value: string) => void;
  onRun: () => void;
};

/** Puts `query` in place of what the first editor within `holder` holds: a change like one that is typed, so that it can be
 * undone. */
export function rewrite(holder: HTMLElement, query: string) {
  const editor = EditorView.findFromDOM(holder);
  if (!editor || editor.state.doc.toString() === query) return;
  const insert = editor.state.toText(query);
  editor.dispatch({
    changes: { from: 0, to: editor.state.doc.length, insert },
    selection: { anchor: insert.length },
    annotations: isolateHistory.of("full"),
  });
}

/**
 * `value` is what it begins with. Later values are not written back: while someone types quickly,
 * what comes round through the page is older than what the editor holds.
 */
export function Editor(props: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const latest = useRef(props);
  latest.current = props;
  useEffect(() => {
    const fetchFn = (input: RequestInfo, init?: RequestInit) => {
      const headers = new Headers(init?.headers);
      for (const [name, value] of Object.entries(latest.current.headers)) headers.set(name, value);
      return fetch(input, { ...init, headers });
    };
    const promql = new PromQLExtension().activateLinter(true).setComplete({ completeStrategy: new QuotingComplete(fetchFn) });
    const run = (editor: EditorView) => {
      closeCompletion(editor);
      latest.current.onRun();
      return true;
    };
    const editor = new EditorView({
      parent: holder.current!,
      state: EditorState.create({
        doc: latest.current.value,
        extensions: [
          history(),
          indentOnInput(),
          bracketMatching(),
          closeBrackets(),
          autocompletion(),
          EditorView.lineWrapping,
          syntaxHighlighting(colours),
          promql.asExtension(),
          placeholder("PromQL expression; Enter runs it, Shift+Enter starts a line"),
          Prec.high(
            keymap.of([
              { key: "Shift-Enter", run: insertNewlineAndIndent },
              { key: "Mod-Enter", run },
              { key: "Ctrl-Enter", run },
            ]),
          ),
          keymap.of([
            ...closeBracketsKeymap,
            ...completionKeymap,
            { key: "Enter", run },
            ...defaultKeymap,
            ...historyKeymap,
            ...lintKeymap,
          ]),
          EditorView.contentAttributes.of({ "aria-label": "PromQL expression" }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) latest.current.onChange(update.state.doc.toString());
          }),
        ],
      }),
    });
    return () => {
      editor.destroy();
      promql.destroy();
    };
  }, []);
  return <div class="editor" ref={holder} />;
}
