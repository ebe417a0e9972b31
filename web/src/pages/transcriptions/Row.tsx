// One transcription of the list: how it is, how far, and what can be done about it.
import { Button, Group, Progress, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { IconAlertTriangle, IconPencil, IconPlayerStop, IconRefresh, IconTrash } from "@tabler/icons-react";

import { failed } from "../../api/change";
import { isActive, sessionQuery, useAction, useRename } from "../../api/queries";
import type { TranscriptionView } from "../../api/schema";
import { Actions, NameDialog, Note, WithCode } from "../../shell/Parts";
import { StateBadge } from "../../shell/StateBadge";
import { inWords, type Texts } from "../../texts";
import { paceOf } from "../../pace";
import { clock, duration, modelName, useNow, useWords } from "../../words";
import { remove, undo, UNDO_MS } from "./removal";
import style from "./Transcriptions.module.css";

export function Row({ one }: { one: TranscriptionView }) {
  const { t, ago, languageName } = useWords();
  const { data: session } = useQuery(sessionQuery);
  const now = useNow(isActive(one) ? 1 : 30);
  const facts = [
    ago(now - one.created_at),
    one.language ? languageName(one.language) : null,
    modelName(one.options.model),
    one.owner !== session?.owner ? t.list.by(one.owner) : null,
  ].filter(Boolean);
  return (
    <li className={style.row}>
      <div className={style.what}>
        <Link to="/transcriptions/$id" params={{ id: one.id }} className={style.name} dir="auto" title={one.name}>
          {one.name}
        </Link>
        <Text size="sm" c="dimmed" truncate>{facts.join(" · ")}</Text>
      </div>
      <div className={style.how}>
        <Group gap="0 8px">
          <StateBadge state={one.state} />
          <Pace one={one} now={now} />
        </Group>
        {isActive(one) && <Bar one={one} />}
        <Trouble one={one} />
      </div>
      <RowActions one={one} />
    </li>
  );
}

/** How far it is, how fast, and how long it will take; then whatever else is to be said of it. */
export function Pace({ one, now, more = [] }: { one: TranscriptionView; now: number; more?: readonly string[] }) {
  const { t, number } = useWords();
  const facts = [...paceFacts(one, now, t, number), ...more];
  return facts.length ? <Note>{facts.join(" · ")}</Note> : null;
}

function paceFacts(one: TranscriptionView, now: number, t: Texts, number: (value: number, digits?: number) => string): string[] {
  const { done_seconds: done = 0, duration_seconds: whole } = one.progress;
  const started = one.started_at;
  if (one.state === "queued" || started === null || started === undefined) return whole ? [clock(whole)] : [];
  if (!isActive(one)) {
    const took = (one.finished_at ?? now) - started;
    if (!whole) return [];
    const facts = [clock(whole), t.list.took(duration(took))];
    return one.state === "done" ? [...facts, t.list.speed(number(whole / Math.max(0.1, took), took > whole / 10 ? 1 : 0))] : facts;
  }
  const pace = paceOf(one.id, done, now);
  const parts = [whole ? t.list.of(clock(done), clock(whole)) : t.list.cutting];
  if (pace) parts.push(t.list.speed(number(pace, pace < 10 ? 1 : 0)));
  if (pace && whole && whole > done) parts.push(t.list.left(duration((whole - done) / pace)));
  return parts;
}

export function Bar({ one }: { one: TranscriptionView }) {
  const { t } = useWords();
  const { done_seconds: done = 0, cut_seconds: cut = 0, duration_seconds: whole } = one.progress;
  const all = whole ?? (cut || 1);
  return (
    <Progress.Root size="sm" mt={6}>
      <Progress.Section value={(100 * done) / all} aria-label={t.list.progress(one.name)} animated={one.state === "running"} />
    </Progress.Root>
  );
}

/** Why it failed, without its name, which stands above; empty if it did not. */
export function problemOf({ error, name }: TranscriptionView): string {
  const message = String(error?.message);
  const reason = message.startsWith(`${name}: `) ? message.charAt(name.length + 2).toUpperCase() + message.slice(name.length + 3) : message;
  return error ? inWords(String(error.code), reason) : "";
}

/** What is wrong with it, in words. */
export function Trouble({ one }: { one: TranscriptionView }) {
  const { t } = useWords();
  const missing = (one.gaps ?? []).reduce((sum, gap) => sum + gap.end_seconds - gap.start_seconds, 0);
  const lacks = missing > 0 && one.state !== "cancelled" ? t.list.missing(duration(missing)) : "";
  const warning = t.warnings[one.warning_code ?? ""]?.(one) ?? one.warning;
  const said = one.state === "failed" ? problemOf(one) : [lacks, warning].filter(Boolean).join(" · ");
  if (!said) return null;
  return (
    <div className={style.trouble} data-bad={one.state === "failed" || undefined}>
      <IconAlertTriangle size={16} aria-hidden />
      <span><WithCode text={said} /></span>
    </div>
  );
}

export function RowActions({ one, onRemove }: { one: TranscriptionView; onRemove?: () => void }) {
  const { t } = useWords();
  const action = useAction();
  const run = (name: "cancel" | "retry") => action.mutate({ id: one.id, action: name });
  const removeIt = () => {
    remove(one.id, failed);
    onRemove?.();
    notifications.show({
      id: one.id,
      autoClose: UNDO_MS,
      withCloseButton: false,
      message: (
        <Group justify="space-between" wrap="nowrap">
          {t.list.removed(one.name)}
          <Button
            size="compact-sm"
            variant="light"
            onClick={() => {
              undo(one.id);
              notifications.hide(one.id);
            }}
          >
            {t.list.undo}
          </Button>
        </Group>
      ),
    });
  };
  const rename = useRename();
  const [renaming, setRenaming] = useDisclosure(false);
  return (
    <>
      <NameDialog
        title={t.list.rename}
        label={t.list.newName}
        given={one.name}
        most={255}
        opened={renaming}
        onClose={setRenaming.close}
        onName={(name) => rename.mutate({ id: one.id, name })}
      />
      <Actions
        label={t.list.actions(one.name)}
        width={200}
        actions={[
          { label: t.list.rename, icon: IconPencil, run: setRenaming.open },
          ...(isActive(one) ? [{ label: t.list.cancel, icon: IconPlayerStop, run: () => run("cancel") }] : []),
          ...(one.mendable ? [{ label: t.tryAgain, icon: IconRefresh, run: () => run("retry") }] : []),
          ...(isActive(one) ? [] : [{ label: t.list.remove, icon: IconTrash, run: removeIt }]),
        ]}
      />
    </>
  );
}
