// Finding in the transcript: the browser's own search sees only the rows that are drawn.
import { ActionIcon, CloseButton, Group, Text, TextInput } from "@mantine/core";
import { IconChevronDown, IconChevronUp, IconSearch } from "@tabler/icons-react";
import { useEffect, useState } from "react";

import { useWords } from "../../words";
import type { Match } from "./rows";
import style from "./Transcription.module.css";

interface Props {
  readonly wanted: string;
  readonly onWanted: (wanted: string) => void;
  readonly matches: readonly Match[];
  readonly onShow: (match: Match) => void;
  readonly onClose: () => void;
}

export function FindBar({ wanted, onWanted, matches, onShow, onClose }: Props) {
  const { t } = useWords();
  const [at, setAt] = useState(0);
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
  }, [first?.row, first?.from]);
  return (
    <Group gap="xs" role="search" wrap="nowrap" className={style.find}>
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
        {wanted.trim() ? t.reader.found(at + 1, matches.length) : ""}
      </Text>
      <ActionIcon variant="default" size="lg" aria-label={t.reader.previous} disabled={!matches.length} onClick={() => go(at - 1)}>
        <IconChevronUp size={18} />
      </ActionIcon>
      <ActionIcon variant="default" size="lg" aria-label={t.reader.next} disabled={!matches.length} onClick={() => go(at + 1)}>
        <IconChevronDown size={18} />
      </ActionIcon>
      <CloseButton aria-label={t.close} onClick={onClose} />
    </Group>
  );
}
