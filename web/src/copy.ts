// Copying to the clipboard, also where a page over plain HTTP has no clipboard of its own.
import { notifications } from "@mantine/notifications";

import type { Texts } from "./texts";

export async function copy(text: string, t: Texts): Promise<void> {
  const copied = await toClipboard(text);
  notifications.show({ message: copied ? t.copied : t.copyFailed, ...(copied ? {} : { color: "red" }) });
}

async function toClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text); // undefined outside secure contexts
    return true;
  } catch {
    return byHand(text);
  }
}

function byHand(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  area.style.opacity = "0";
  (document.querySelector("[role=dialog]") ?? document.body).append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } finally {
    area.remove();
  }
}
