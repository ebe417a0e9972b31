// Finding and replacing in the transcript: the browser's own search sees only the rows that are drawn.
import { ActionIcon, Button, CloseButton, Group, Text, TextInput } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useQuery } from "@tanstack/react-query";
import { IconChevronDown, IconChevronUp, IconReplace, IconSearch, IconSparkles } from "@tabler/icons-react";
import { useEffect, useState } from "react";

import { useChange } from "../../api/change";
import { api, data } from "../../api/client";
import { preferencesQuery } from "../../api/queries";
import { useWords } from "../../words";
import type { EditorHandle } from "./useEditor";
import { type Match, type Row, wholeIn } from "./rows";
import { count, patchOf, sent, textOf } from "./segments";
import style from "./Transcription.module.css";

interface Props {
  readonly rows: readonly Row[];
  readonly wanted: string;
  readonly onWanted: (wanted: string) => void;
  readonly matches: readonly Match[];
  readonly editor: EditorHandle | null;
  readonly onShow: (match: Match) => void;
  readonly onClose: () => void;
}

export function FindBar({ rows, wanted, onWanted, matches, editor, onShow, onClose }: Props) {
  const { t } = useWords();
  const [at, setAt] = useState(0);
  const [replacing, setReplacing] = useState(false);
  useEffect(() => setAt(0), [wanted]);
  const go = (to: number) => {
    const index = (to + matches.length) % matches.length;
    const match = matches[index];
    if (!match) return;
    setAt(index);
    onShow(match);
  };
  const first = matches[0];
  useEffect(() => {
    if (first) onShow(first);
  }, [first?.row, first?.from, first?.to]);
  return (
    <div className={style.find}>
      <Group gap="xs" role="search" wrap="nowrap">
        <TextInput
          flex={1}
          autoFocus
          aria-label={t.reader.find}
          placeholder={t.reader.find}
          leftSection={<IconSearch size={16} aria-hidden />}
          value={wanted}
          onChange={(event) => onWanted(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter") go(at + (event.shiftKey ? -1 : 1));
            if (event.key === "Escape") onClose();
          }}
        />
        <Text size="sm" c="dimmed" aria-live="polite">
          {wanted.trim() ? t.reader.found(Math.min(at + 1, matches.length), matches.length) : ""}
        </Text>
        <ActionIcon variant="default" size="lg" aria-label={t.reader.previous} disabled={!matches.length} onClick={() => go(at - 1)}>
          <IconChevronUp size={18} />
        </ActionIcon>
        <ActionIcon variant="default" size="lg" aria-label={t.reader.next} disabled={!matches.length} onClick={() => go(at + 1)}>
          <IconChevronDown size={18} />
        </ActionIcon>
        {editor && (
          <ActionIcon variant={replacing ? "filled" : "default"} size="lg" aria-label={t.edit.replace} aria-expanded={replacing} onClick={() => setReplacing(!replacing)}>
            <IconReplace size={18} />
          </ActionIcon>
        )}
        <CloseButton aria-label={t.close} onClick={onClose} />
      </Group>
      {editor && replacing && (
        <Replace editor={editor} rows={rows} wanted={wanted} match={matches[Math.min(at, matches.length - 1)]} onNext={() => go(at)} />
      )}
    </div>
  );
}

function Replace({ editor, rows, wanted, match, onNext }: {
  editor: EditorHandle;
  rows: readonly Row[];
  wanted: string;
  match: Match | undefined;
  onNext: () => void;
}) {
  const { t } = useWords();
  const [by, setBy] = useState("");
  const { data: kept } = useQuery(preferencesQuery);
  const [done, setDone] = useState(false);
  const everywhere = count(editor.segments(), wanted);
  const piece = match && wholeIn(rows, match);
  const one = async () => {
    if (!piece) return;
    const text = textOf(piece.segment);
    const next = text.slice(0, match.from - piece.from) + by + text.slice(match.to - piece.from);
    const left = next.trim() ? [sent(piece.segment, { text: next })] : [];
    await editor.corrections.patch(patchOf(editor.segments(), piece.index, piece.index + 1, left));
    onNext();
  };
  const all = async () => {
    await Promise.all([...editor.drafts].map((flush) => flush()));
    setDone(await editor.corrections.change({ replace: { text: wanted.trim(), by } }));
  };
  const name = by.trim();
  const glossary = kept?.glossary ?? "";
  const expect = useChange(
    () => data(api.PATCH("/app/preferences", { body: { glossary: glossary ? `${glossary}, ${name}` : name } })),
    [preferencesQuery.queryKey],
    () => {
      notifications.show({ message: t.edit.expected(name) });
      setDone(false);
    },
  );
  return (
    <Group gap="xs" mt={8}>
      <TextInput
        flex={1}
        miw={160}
        maxLength={1000}
        aria-label={t.edit.replaceBy}
        placeholder={t.edit.replaceBy}
        leftSection={<IconReplace size={16} aria-hidden />}
        value={by}
        onChange={(event) => {
          setBy(event.currentTarget.value);
          setDone(false);
        }}
        onKeyDown={(event) => event.key === "Enter" && void one()}
      />
      <Button variant="default" disabled={!piece} onClick={() => void one()}>{t.edit.replaceOne}</Button>
      <Button disabled={!everywhere} onClick={() => void all()}>{t.edit.replaceAll(everywhere)}</Button>
      {done && name && !glossary.includes(name) && (
        <Button variant="light" leftSection={<IconSparkles size={16} aria-hidden />} onClick={() => expect.mutate()}>
          {t.edit.expect(name)}
        </Button>
      )}
    </Group>
  );
}
