// The text as a file of one format, as several, or in the clipboard.
import { Button, Menu, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconCopy, IconDownload, IconFileZip } from "@tabler/icons-react";

import { address } from "../../api/client";
import { hasTranscript } from "../../api/queries";
import type { TranscriptionView } from "../../api/schema";
import { copy } from "../../copy";
import { FilesDialog } from "../../shell/FilesDialog";
import { filesPath, useLetters } from "../../shell/files";
import { useWords } from "../../words";
import { plainText, type Row } from "./rows";

/** What is written in cues. */
const CUES = /srt|vtt/;

export function Export({ one, rows }: { one: TranscriptionView; rows: readonly Row[] }) {
  const { t } = useWords();
  const [choosing, several] = useDisclosure(false);
  const [letters] = useLetters();
  return (
    <>
      <Menu position="bottom-start" middlewares={{ shift: true, flip: true, size: true }}>
        <Menu.Target>
          <Button leftSection={<IconDownload size={17} aria-hidden />} disabled={!rows.length}>
            {t.reader.export}
          </Button>
        </Menu.Target>
        <Menu.Dropdown style={{ overflowY: "auto" }}>
          <Menu.Item leftSection={<IconCopy size={16} aria-hidden />} onClick={() => void copy(plainText(rows), t)}>
            {t.reader.copyText}
          </Menu.Item>
          {hasTranscript(one) && (
            <Menu.Item leftSection={<IconFileZip size={16} aria-hidden />} onClick={several.open}>
              {t.reader.several}
            </Menu.Item>
          )}
          {hasTranscript(one) &&
            Object.entries(t.reader.formats).map(([format, name]) => (
              <Menu.Item
                key={format}
                component="a"
                href={address(filesPath([one.id], [format], letters))}
                download
                leftSection={<IconDownload size={16} aria-hidden />}
              >
                {name}
                {letters > 0 && CUES.test(format) && <Text size="xs" c="dimmed">{t.edit.lettersALine(letters)}</Text>}
              </Menu.Item>
            ))}
        </Menu.Dropdown>
      </Menu>
      <FilesDialog ids={[one.id]} title={t.reader.several} opened={choosing} onClose={several.close} />
    </>
  );
}
