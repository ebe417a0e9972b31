// Marks in the text by the CSS Highlight API: no element for each word, so ten hours stay light.
// Where a browser has no such marks the text is simply not marked.

export type Mark = "spoken" | "doubtful" | "current" | "found" | "struck";

const marks = new Map<Mark, Highlight>();

function markOf(name: Mark): Highlight | null {
  if (typeof Highlight === "undefined") return null;
  let mark = marks.get(name);
  if (!mark) {
    mark = new Highlight();
    mark.priority = ["struck", "doubtful", "found", "spoken", "current"].indexOf(name);
    marks.set(name, mark);
    CSS.highlights.set(name, mark);
  }
  return mark;
}

/** Mark some letters of a paragraph; the function returned takes the mark away. */
export function addMark(name: Mark, element: Element | null, from: number, to: number): () => void {
  const range = rangeIn(element, from, to);
  const mark = markOf(name);
  if (!range || !mark) return () => undefined;
  mark.add(range);
  return () => void mark.delete(range);
}

/** Mark these letters and no others. */
export function setMark(name: Mark, element: Element | null, from: number, to: number): void {
  markOf(name)?.clear();
  addMark(name, element, from, to);
}

export function clearMark(name: Mark): void {
  marks.get(name)?.clear();
}

function rangeIn(element: Element | null, from: number, to: number): Range | null {
  const text = element?.firstChild;
  if (!(text instanceof Text) || to > text.length) return null;
  const range = new Range();
  range.setStart(text, from);
  range.setEnd(text, to);
  return range;
}

/** Which letter of a paragraph is under the pointer; null if none is. */
export function letterAt(x: number, y: number, element: Element): number | null {
  const found = place(x, y);
  return found && element.contains(found.node) ? found.offset : null;
}

function place(x: number, y: number): { node: Node; offset: number } | null {
  if ("caretPositionFromPoint" in document) {
    const position = document.caretPositionFromPoint(x, y);
    return position && { node: position.offsetNode, offset: position.offset };
  }
  const range = (document as Document).caretRangeFromPoint(x, y);
  return range && { node: range.startContainer, offset: range.startOffset };
}
