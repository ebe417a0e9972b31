// Addresses that are told of transcriptions that end, and what became of the messages.
import { Button, Group, Switch, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { useChange } from "../../api/change";
import { api, data } from "../../api/client";
import type { DeliveryView, WebhookView } from "../../api/schema";
import { Entries, Entry, Form, Section, Shown, Small } from "../../shell/Parts";
import { useNow, useWords } from "../../words";

const KEYS = [["webhooks"]];
const LOOK_MS = 3000;

export function Webhooks() {
  const { t } = useWords();
  const { data: found } = useQuery({ queryKey: ["webhooks"], queryFn: () => data(api.GET("/api/webhooks")) });
  const [progress, setProgress] = useState(false);
  const make = useChange((url: string) => data(api.POST("/api/webhooks", { body: { url, progress } })), KEYS);
  return (
    <Section title={t.settings.webhooks} hint={t.settings.webhooksHint}>
      <Entries label={t.settings.webhooks}>{found?.webhooks.map((one) => <Webhook key={one.id} one={one} />)}</Entries>
      {make.data?.secret && <Shown label={t.settings.webhookSecret} secret={make.data.secret} />}
      <Form onSend={({ url = "" }, empty) => make.mutate(url, { onSuccess: empty })}>
        <Group align="end" gap="sm">
          <TextInput name="url" type="url" label={t.settings.webhookUrl} placeholder="https://" required withAsterisk={false} flex="1 1 180px" />
          <Switch label={t.settings.withProgress} checked={progress} onChange={(event) => setProgress(event.currentTarget.checked)} pb={8} />
          <Button type="submit" variant="default" loading={make.isPending}>{t.settings.add}</Button>
        </Group>
      </Form>
    </Section>
  );
}

function Webhook({ one }: { one: WebhookView }) {
  const { t, ago } = useWords();
  const now = useNow(60);
  const [open, setOpen] = useState(false);
  const path = { webhook_id: one.id };
  const deliveries = ["deliveries", one.id];
  const remove = useChange(() => data(api.DELETE("/api/webhooks/{webhook_id}", { params: { path } })), KEYS);
  const test = useChange(() => data(api.POST("/api/webhooks/{webhook_id}/test", { params: { path } })), [deliveries], () => setOpen(true));
  const again = useChange(
    (message_id: string) =>
      data(api.POST("/api/webhooks/{webhook_id}/deliveries/{message_id}/redeliver", { params: { path: { ...path, message_id } } })),
    [deliveries],
  );
  const { data: found } = useQuery({
    queryKey: deliveries,
    queryFn: () => data(api.GET("/api/webhooks/{webhook_id}/deliveries", { params: { path, query: { limit: 20 } } })),
    enabled: open,
    refetchInterval: LOOK_MS,
  });
  return (
    <>
      <Entry name={one.url} about={[one.owner, t.settings.made(ago(now - one.created_at)), one.progress ? t.settings.withProgress : null]}>
        <Small label={t.settings.test} onClick={() => test.mutate()} />
        <Small label={t.settings.deliveries} onClick={() => setOpen(!open)} />
        <Small danger label={t.settings.remove} onClick={() => remove.mutate()} />
      </Entry>
      {open && found?.deliveries.length === 0 && <Entry name="" about={[t.settings.noDeliveries]} />}
      {open && found?.deliveries.map((delivery) => <Delivery key={delivery.id} one={delivery} now={now} again={again.mutate} />)}
    </>
  );
}

function Delivery({ one, now, again }: { one: DeliveryView; now: number; again: (message: string) => void }) {
  const { t, ago } = useWords();
  const facts = [ago(now - one.created_at), t.settings.tries(one.tries), one.status ? `HTTP ${one.status}` : null];
  return (
    <Entry name={one.kind} badge={t.settings.deliveryStates[one.state]} about={facts} bad={one.error}>
      {one.state !== "pending" && <Small label={t.settings.again} onClick={() => again(one.id)} />}
    </Entry>
  );
}
