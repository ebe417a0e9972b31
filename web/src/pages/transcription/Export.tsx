// The text as files: one of a format, several at once as a ZIP file, or in the clipboard.
import { Button, Checkbox, Group, Menu, Modal, SimpleGrid, Stack } from "@mantine/core";
import { useDisclosure, useLocalStorage } from "@mantine/hooks";
import { IconCopy, IconDownload, IconFileZip } from "@tabler/icons-react";

import { address } from "../../api/client";
import { hasTranscript } from "../../api/queries";
import type { TranscriptionView } from "../../api/schema";
import { copy } from "../../copy";
import { useWords } from "../../words";
import { plainText, type Row } from "./rows";

const USUAL = ["txt", "srt", "vtt", "docx"];

export function Export({ one, rows }: { one: TranscriptionView; rows: readonly Row[] }) {
  const { t } = useWords();
  const [choosing, several] = useDisclosure(false);
  return (
    <>
      <Menu position="bottom-start">
        <Menu.Target>
          <Button leftSection={<IconDownload size={17} aria-hidden />} disabled={!rows.length}>
            {t.reader.export}
          </Button>
        </Menu.Target>
        <Menu.Dropdown mah="70vh" style={{ overflowY: "auto" }}>
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
                href={address(`api/transcriptions/${one.id}/transcript?format=${format}`)}
                download
                leftSection={<IconDownload size={16} aria-hidden />}
              >
                {name}
              </Menu.Item>
            ))}
        </Menu.Dropdown>
      </Menu>
      <Several id={one.id} opened={choosing} onClose={several.close} />
    </>
  );
}

/** Which formats go into the ZIP file; this browser remembers them. */
function Several({ id, opened, onClose }: { id: string; opened: boolean; onClose: () => void }) {
  const { t } = useWords();
  const [chosen, choose] = useLocalStorage({ key: "export-formats", defaultValue: USUAL });
  const formats = Object.entries(t.reader.formats);
  const wanted = new URLSearchParams(chosen.map((format) => ["format", format]));
  return (
    <Modal opened={opened} onClose={onClose} size="lg" title={t.reader.several}>
      <Stack>
        <Checkbox.Group value={chosen} onChange={choose} aria-label={t.reader.several}>
          <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="sm">
            {formats.map(([format, name]) => <Checkbox key={format} value={format} label={name} />)}
          </SimpleGrid>
        </Checkbox.Group>
        <Group justify="space-between">
          <Button variant="subtle" onClick={() => choose(chosen.length < formats.length ? formats.map(([format]) => format) : [])}>
            {chosen.length < formats.length ? t.reader.allFormats : t.reader.noFormats}
          </Button>
          <Button
            component="a"
            href={address(`api/transcriptions/${id}/transcripts?${wanted}`)}
            download
            leftSection={<IconDownload size={17} aria-hidden />}
            disabled={!chosen.length}
            onClick={onClose}
          >
            {t.reader.files(chosen.length)}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
