// The podcasts that the farm follows: add one, see what came of it, take the address of the feed with transcripts.
import { Anchor, Button, Container, Group, Loader, NumberInput, SimpleGrid, Stack, Switch, Text, TextInput, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import { useChange } from "../../api/change";
import { address, api, data } from "../../api/client";
import { feedsQuery, sessionQuery } from "../../api/queries";
import type { FeedView } from "../../api/schema";
import { copy } from "../../copy";
import { isFatal, Problem } from "../../shell/Failed";
import { Entries, Entry, Form, Section, Small } from "../../shell/Parts";
import { reasonInWords } from "../../texts";
import { useNow, useWords } from "../../words";
import { OptionsPanel, useSending } from "../transcriptions/Options";

const KEYS = [["feeds"], ["transcriptions"]];
const NEWEST = 3;

export function Feeds() {
  const { t } = useWords();
  const { data: found, error } = useQuery(feedsQuery);
  if (isFatal(error, found)) return <Container py="lg"><Problem error={error} /></Container>;
  return (
    <Container size="lg" py="lg">
      <Stack gap="lg">
        <div>
          <Title order={1}>{t.nav.feeds}</Title>
          <Text c="dimmed">{t.feeds.hint}</Text>
        </div>
        {!found && <Loader aria-label={t.loading} />}
        {found && found.feeds.length > 0 && (
          <Section title={t.feeds.followed}>
            <Entries label={t.feeds.followed}>{found.feeds.map((one) => <Feed key={one.id} one={one} />)}</Entries>
          </Section>
        )}
        <NewFeed />
      </Stack>
    </Container>
  );
}

function Feed({ one }: { one: FeedView }) {
  const { t, ago } = useWords();
  const now = useNow(10);
  const { data: session } = useQuery(sessionQuery);
  const remove = useChange(() => data(api.DELETE("/api/feeds/{feed_id}", { params: { path: { feed_id: one.id } } })), KEYS);
  const about = [
    one.looked_at ? t.feeds.episodes(one.episodes, one.transcribed, one.failed ?? 0) : t.feeds.first,
    one.looked_at ? t.feeds.looked(ago(now - one.looked_at)) : null,
    one.words ? t.feeds.only(one.words) : null,
    one.owner === session?.owner ? null : t.list.by(one.owner),
    one.title ? one.url : null,
  ];
  const episodes = (
    <Anchor inherit renderRoot={(props) => <Link to="/" search={{ feed: one.id }} {...props} />}>{one.title || one.url}</Anchor>
  );
  return (
    <Entry name={episodes} about={about} bad={one.error && reasonInWords(one.error)}>
      <Small label={t.feeds.copy} onClick={() => void copy(address(one.served_at), t)} />
      <Small danger label={t.settings.remove} onClick={() => remove.mutate()} />
    </Entry>
  );
}

function NewFeed() {
  const { t } = useWords();
  const sending = useSending();
  const [count, setCount] = useState<number | string>(NEWEST);
  const [keep, setKeep] = useState(false);
  const add = useChange((body: object) => {
    const wanted = { ...body, count: Number(count) || NEWEST, keep_transcripts: keep, options: sending().options };
    return data(api.POST("/api/feeds", { body: wanted as never }));
  }, KEYS);
  return (
    <Section title={t.feeds.add} hint={t.feeds.addHint}>
      <Form onSend={({ url, words }, empty) => add.mutate({ url, words }, { onSuccess: empty })}>
        <Stack gap="sm">
          {add.error && <Problem error={add.error} title={null} />}
          <TextInput name="url" type="url" label={t.feeds.url} placeholder="https://example.org/feed.xml" required withAsterisk={false} />
          <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="sm" style={{ alignItems: "end" }}>
            <NumberInput label={t.feeds.count} description={t.feeds.countHint} value={count} onChange={setCount} min={1} max={1000} allowDecimal={false} hideControls />
            <TextInput name="words" label={t.feeds.words} description={t.feeds.wordsHint} maxLength={200} />
          </SimpleGrid>
          <Switch label={t.feeds.keep} checked={keep} onChange={(event) => setKeep(event.currentTarget.checked)} />
          <OptionsPanel />
          <Group><Button type="submit" loading={add.isPending}>{t.feeds.follow}</Button></Group>
        </Stack>
      </Form>
    </Section>
  );
}
