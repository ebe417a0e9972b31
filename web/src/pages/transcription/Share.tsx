// Links that let anybody read this transcription: make, copy, revoke.
import { Button, Group, Modal, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { IconShare } from "@tabler/icons-react";

import { address, api, data } from "../../api/client";
import { useNow, useWords } from "../../words";
import style from "../account/Account.module.css";
import { failed, Shown } from "../account/Section";

export function Share({ id }: { id: string }) {
  const { t } = useWords();
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <>
      <Button variant="default" leftSection={<IconShare size={17} aria-hidden />} onClick={open}>
        {t.share.button}
      </Button>
      <Modal opened={opened} onClose={close} title={t.share.title} closeButtonProps={{ "aria-label": t.close }} size="lg">
        {opened && <Links id={id} />}
      </Modal>
    </>
  );
}

function Links({ id }: { id: string }) {
  const { t, ago } = useWords();
  const client = useQueryClient();
  const now = useNow(60);
  const path = { transcription_id: id };
  const { data: found } = useQuery({
    queryKey: ["shares", id],
    queryFn: () => data(api.GET("/api/transcriptions/{transcription_id}/shares", { params: { path } })),
  });
  const done = () => client.invalidateQueries({ queryKey: ["shares", id] });
  const make = useMutation({
    mutationFn: () => data(api.POST("/api/transcriptions/{transcription_id}/shares", { params: { path } })),
    onSuccess: done,
    onError: failed,
  });
  const revoke = useMutation({
    mutationFn: (share_id: string) =>
      data(api.DELETE("/api/transcriptions/{transcription_id}/shares/{share_id}", { params: { path: { ...path, share_id } } })),
    onSuccess: done,
    onError: failed,
  });
  const made = found?.shares.some((one) => one.id === make.data?.id) ? make.data : undefined;
  return (
    <Stack>
      <Text>{t.share.hint}</Text>
      {made && <Shown label={t.share.made} secret={`${address("")}#/shared/${id}/${made.secret}`} />}
      <ul className={style.list}>
        {found?.shares.map((one) => (
          <li key={one.id}>
            <Text className={style.grow}>{t.share.link(one.made_by, ago(now - one.created_at))}</Text>
            <Button size="compact-sm" variant="subtle" color="red" onClick={() => revoke.mutate(one.id)}>
              {t.account.revoke}
            </Button>
          </li>
        ))}
      </ul>
      <Group>
        <Button data-autofocus loading={make.isPending} onClick={() => make.mutate()}>
          {t.share.make}
        </Button>
      </Group>
    </Stack>
  );
}
