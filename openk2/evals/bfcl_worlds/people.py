"""Posts, messages and support tickets.

In: their starting states. Out: the pack's functions on them.
Must not know: each other.
"""

from __future__ import annotations

import copy
import random
from typing import Any

from openk2.evals.bfcl_worlds.world import Config, Json, Refused


class TwitterAPI:
    """Posts, comments and whom one follows."""

    def __init__(self, config: Config) -> None:
        """Take the accounts and posts."""
        given = copy.deepcopy(dict(config))
        self._username: str = given.get("username", "john")
        self._password: str = given.get("password", "john123")
        self._authenticated: bool = given.get("authenticated", False)
        tweets: dict[str, Json] = given.get("tweets", {})
        self._tweets = {int(key): tweet for key, tweet in tweets.items()}
        self._comments: dict[Any, list[Json]] = given.get("comments", {})
        self._retweets: dict[str, list[int]] = given.get("retweets", {})
        self._following: list[str] = given.get("following_list", ["alice", "bob"])
        self._counter: int = given.get("tweet_counter", 0)

    def state(self) -> Any:
        """Return the account and all posts."""
        return (self._username, self._password, self._authenticated, self._tweets, self._comments,
                self._retweets, self._following, self._counter)  # fmt: skip

    def authenticate_twitter(self, username: str, password: str) -> Json:
        """Log in."""
        right = (username, password) == (self._username, self._password)
        self._authenticated = self._authenticated or right
        return {"authentication_status": right}

    def posting_get_login_status(self) -> Json:
        """Say whether one is logged in."""
        return {"login_status": self._authenticated}

    def post_tweet(
        self, content: str, tags: list[str] | None = None, mentions: list[str] | None = None
    ) -> Json:
        """Post."""
        self._logged_in("posting")
        tweet = {"id": self._counter, "username": self._username, "content": content,
                 "tags": tags or [], "mentions": mentions or []}  # fmt: skip
        self._tweets[self._counter] = tweet
        self._counter += 1
        return tweet

    def retweet(self, tweet_id: int) -> Json:
        """Post another's post again."""
        self._logged_in("retweeting")
        self._tweet(tweet_id)
        mine = self._retweets.setdefault(self._username, [])
        if tweet_id in mine:
            return {"retweet_status": "Already retweeted"}
        mine.append(tweet_id)
        return {"retweet_status": "Successfully retweeted"}

    def comment(self, tweet_id: int, comment_content: str) -> Json:
        """Comment on a post."""
        self._logged_in("commenting")
        self._tweet(tweet_id)
        said = {"username": self._username, "content": comment_content}
        self._comments.setdefault(tweet_id, []).append(said)
        return {"comment_status": "Comment added successfully"}

    def mention(self, tweet_id: int, mentioned_usernames: list[str]) -> Json:
        """Mention people in a post."""
        self._tweet(tweet_id)["mentions"].extend(mentioned_usernames)
        return {"mention_status": "Users mentioned successfully"}

    def follow_user(self, username_to_follow: str) -> Json:
        """Follow somebody."""
        self._logged_in("following")
        if username_to_follow in self._following:
            return {"follow_status": False}
        self._following.append(username_to_follow)
        return {"follow_status": True}

    def unfollow_user(self, username_to_unfollow: str) -> Json:
        """Follow somebody no more."""
        self._logged_in("unfollowing")
        if username_to_unfollow not in self._following:
            return {"unfollow_status": False}
        self._following.remove(username_to_unfollow)
        return {"unfollow_status": True}

    def list_all_following(self) -> Json:
        """List whom one follows."""
        self._logged_in("listing following")
        return {"following_list": self._following}

    def get_tweet(self, tweet_id: int) -> Json:
        """Show a post."""
        return self._tweet(tweet_id)

    def get_user_tweets(self, username: str) -> list[Json]:
        """Show somebody's posts."""
        return [tweet for tweet in self._tweets.values() if tweet["username"] == username]

    def search_tweets(self, keyword: str) -> list[Json]:
        """Find posts by a word of theirs, or by a tag."""
        word = keyword.lower()
        return [
            tweet
            for tweet in self._tweets.values()
            if word in tweet["content"].lower() or word in [tag.lower() for tag in tweet["tags"]]
        ]

    def get_tweet_comments(self, tweet_id: int) -> list[Json]:
        """Show a post's comments."""
        self._tweet(tweet_id)
        return self._comments.get(tweet_id, [])

    def get_user_stats(self, username: str) -> Json:
        """Count somebody's posts."""
        following = len(self._following) if username == self._username else 0
        return {"tweet_count": len(self.get_user_tweets(username)), "following_count": following,
                "retweet_count": len(self._retweets.get(username, []))}  # fmt: skip

    def _logged_in(self, what: str) -> None:
        if not self._authenticated:
            raise Refused(f"log in before {what}")

    def _tweet(self, tweet_id: int) -> Json:
        if tweet_id not in self._tweets:
            raise Refused(f"there is no tweet {tweet_id}")
        return self._tweets[tweet_id]


class MessageAPI:
    """Messages between the people of a workspace."""

    def __init__(self, config: Config) -> None:
        """Take the people and their messages."""
        given = copy.deepcopy(dict(config))
        self._random = random.Random(given.get("random_seed", 200191))
        self._ids: set[int] = set(given.get("generated_ids", ()))
        self._user_count: int = given.get("user_count", 4)
        self._users: dict[str, str] = given.get("user_map", {
            "Alice": "USR001", "Bob": "USR002", "Catherine": "USR003", "Daniel": "USR004",
        })  # fmt: skip
        self._inbox: list[dict[str, str]] = given.get("inbox", [
            {"USR002": "My name is Alice. I want to connect."},
            {"USR003": "Could you upload the file?"}, {"USR004": "Could you upload the file?"},
        ])  # fmt: skip
        self._count: int = given.get("message_count", 3)
        self._current: str | None = given.get("current_user")

    def state(self) -> Any:
        """Return people and messages."""
        return self._ids, self._user_count, self._users, self._inbox, self._count, self._current

    def list_users(self) -> Json:
        """List the people."""
        return {"user_list": list(self._users)}

    def get_user_id(self, user: str) -> Json:
        """Find somebody's id."""
        if user not in self._users:
            raise Refused(f"there is no user {user!r}")
        return {"user_id": self._users[user]}

    def message_login(self, user_id: str) -> Json:
        """Log in."""
        if user_id not in self._users.values():
            return {"login_status": False, "message": f"User ID '{user_id}' not found."}
        self._current = user_id
        return {"login_status": True, "message": f"User '{user_id}' logged in successfully."}

    def message_get_login_status(self) -> Json:
        """Say whether somebody is logged in."""
        return {"login_status": bool(self._current)}

    def send_message(self, receiver_id: str, message: str) -> Json:
        """Send."""
        self._logged_in()
        if receiver_id not in self._users.values():
            raise Refused(f"there is no receiver {receiver_id!r}")
        new = self._random.randint(10000, 99999)
        while new in self._ids:
            new = self._random.randint(10000, 99999)
        self._ids.add(new)
        self._inbox.append({receiver_id: message})
        self._count += 1
        said = f"Message sent to '{receiver_id}' successfully."
        return {"sent_status": True, "message_id": {"new_id": new}, "message": said}

    def delete_message(self, receiver_id: str) -> Json:
        """Delete the last message to somebody."""
        self._logged_in()
        for message in reversed(self._inbox):
            if next(iter(message)) == receiver_id:
                self._inbox.remove(message)
                said = f"Receiver {receiver_id}'s latest message deleted successfully."
                return {"deleted_status": True, "receiver_id": receiver_id, "message": said}
        raise Refused(f"there is no message to {receiver_id}")

    def view_messages_sent(self) -> Json:
        """Show all messages by receiver."""
        self._logged_in()
        sent: dict[str, list[str]] = {}
        for receiver, text in self._messages():
            sent.setdefault(receiver, []).append(text)
        return {"messages": sent}

    def add_contact(self, user_name: str) -> Json:
        """Add somebody."""
        if user_name in self._users:
            raise Refused(f"the user name {user_name!r} is taken")
        self._user_count += 1
        user_id = f"USR{self._user_count:03}"
        if user_id in self._users.values():
            raise Refused(f"the user id {user_id!r} is taken")
        self._users[user_name] = user_id
        said = f"Contact '{user_name}' added successfully."
        return {"added_status": True, "user_id": user_id, "message": said}

    def search_messages(self, keyword: str) -> Json:
        """Find messages by a word."""
        self._logged_in()
        found = [
            {"receiver_id": receiver, "message": text}
            for receiver, text in self._messages()
            if keyword.lower() in text.lower()
        ]
        return {"results": found}

    def get_message_stats(self) -> Json:
        """Count messages."""
        self._logged_in()
        receivers = {receiver for receiver, _ in self._messages()}
        return {"stats": {"received_count": len(self._inbox), "total_contacts": len(receivers)}}

    def _logged_in(self) -> None:
        if not self._current:
            raise Refused("nobody is logged in")

    def _messages(self) -> list[tuple[str, str]]:
        return [next(iter(message.items())) for message in self._inbox]


class TicketAPI:
    """Support tickets."""

    def __init__(self, config: Config) -> None:
        """Take the tickets."""
        given = copy.deepcopy(dict(config))
        self._queue: list[Json] = given.get("ticket_queue", [])
        self._counter: int = given.get("ticket_counter", 1)
        self._current: str | None = given.get("current_user")

    def state(self) -> Any:
        """Return tickets and who is logged in."""
        return self._queue, self._counter, self._current

    def create_ticket(self, title: str, description: str = "", priority: int = 1) -> Json:
        """Open a ticket."""
        if not self._current:
            raise Refused("log in to create a ticket")
        if not 1 <= priority <= 5:
            raise Refused("a priority is 1 to 5")
        ticket = {"id": self._counter, "title": title, "description": description, "status": "Open",
                  "priority": priority, "created_by": self._current}  # fmt: skip
        self._queue.append(ticket)
        self._counter += 1
        return ticket

    def get_ticket(self, ticket_id: int) -> Json:
        """Show a ticket."""
        return self._ticket(ticket_id)

    def close_ticket(self, ticket_id: int) -> Json:
        """Close a ticket."""
        ticket = self._ticket(ticket_id)
        if ticket["status"] == "Closed":
            raise Refused(f"ticket {ticket_id} is closed already")
        ticket["status"] = "Closed"
        return {"status": f"Ticket {ticket_id} has been closed successfully."}

    def resolve_ticket(self, ticket_id: int, resolution: str) -> Json:
        """Resolve a ticket."""
        ticket = self._ticket(ticket_id)
        if ticket["status"] == "Resolved":
            raise Refused(f"ticket {ticket_id} is resolved already")
        ticket |= {"status": "Resolved", "resolution": resolution}
        return {"status": f"Ticket {ticket_id} has been resolved successfully."}

    def edit_ticket(self, ticket_id: int, updates: Json) -> Json:
        """Change a ticket."""
        ticket = self._ticket(ticket_id)
        if unknown := sorted(updates.keys() - {"title", "description", "status", "priority"}):
            raise Refused(f"these fields cannot be changed: {', '.join(unknown)}")
        ticket |= {key: value for key, value in updates.items() if value is not None}
        return {"status": f"Ticket {ticket_id} has been updated successfully."}

    def ticket_login(self, username: str, password: str) -> Json:
        """Log in; any name and word will do."""
        if not (username and password):
            return {"success": False}
        self._current = username
        return {"success": True}

    def ticket_get_login_status(self) -> Json:
        """Say whether somebody is logged in."""
        return {"login_status": bool(self._current)}

    def logout(self) -> Json:
        """Log out."""
        was, self._current = self._current, None
        return {"success": bool(was)}

    def get_user_tickets(self, status: str | None = None) -> list[Json]:
        """Show one's own tickets."""
        if not self._current:
            return [{"error": "log in to view tickets"}]
        return [
            ticket
            for ticket in self._queue
            if ticket["created_by"] == self._current
            and (not status or ticket["status"].lower() == status.lower())
        ]

    def _ticket(self, ticket_id: int) -> Json:
        for ticket in self._queue:
            if ticket["id"] == ticket_id:
                return ticket
        raise Refused(f"there is no ticket {ticket_id}")
