// Links that let anybody read this transcription: make, copy, revoke.
import { Button, Group, Modal, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { IconShare } from "@tabler/icons-react";

import { useChange } from "../../api/change";
import { address, api, data } from "../../api/client";
import { useNow, useWords } from "../../words";
import { Entries, Entry, Shown, Small } from "../../shell/Parts";

export function Share({ id }: { id: string }) {
  const { t } = useWords();
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <>
      <Button variant="default" data-short leftSection={<IconShare size={17} aria-hidden />} aria-label={t.share.button} onClick={open}>
        {t.share.button}
      </Button>
      <Modal opened={opened} onClose={close} title={t.share.title} size="lg">{opened && <Links id={id} />}</Modal>
    </>
  );
}

function Links({ id }: { id: string }) {
  const { t, ago } = useWords();
  const now = useNow(60);
  const path = { transcription_id: id };
  const { data: found } = useQuery({
    queryKey: ["shares", id],
    queryFn: () => data(api.GET("/api/transcriptions/{transcription_id}/shares", { params: { path } })),
  });
  const keys = [["shares", id]];
  const make = useChange(() => data(api.POST("/api/transcriptions/{transcription_id}/shares", { params: { path } })), keys);
  const revoke = useChange(
    (share_id: string) =>
      data(api.DELETE("/api/transcriptions/{transcription_id}/shares/{share_id}", { params: { path: { ...path, share_id } } })),
    keys,
  );
  const made = found?.shares.some((one) => one.id === make.data?.id) ? make.data : undefined;
  return (
    <Stack>
      <Text>{t.share.hint}</Text>
      {made && <Shown label={t.share.made} secret={`${address("")}#/shared/${id}/${made.secret}`} />}
      <Entries label={t.share.title}>
        {found?.shares.map((one) => (
          <Entry key={one.id} name={one.made_by} about={[t.settings.made(ago(now - one.created_at))]}>
            <Small danger label={t.settings.revoke} onClick={() => revoke.mutate(one.id)} />
          </Entry>
        ))}
      </Entries>
      <Group>
        <Button data-autofocus loading={make.isPending} onClick={() => make.mutate()}>{t.share.make}</Button>
      </Group>
    </Stack>
  );
}
