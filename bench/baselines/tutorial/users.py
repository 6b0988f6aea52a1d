"""The users service on Flask."""

from __future__ import annotations

from flask import Flask, jsonify

from bench.catalogue import USERS

app = Flask(__name__)

users = {user_id: {"id": user_id, "name": user_id, "email": f"{user_id}@example.com"} for user_id in USERS}


@app.get("/users/<user_id>")
def get_user(user_id: str):
    if user_id not in users:
        return jsonify(error="User not found"), 404
    return jsonify(users[user_id])
