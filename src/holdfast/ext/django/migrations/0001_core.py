"""The tables of the store, as its own first migration makes them, and what Django reads there."""

from __future__ import annotations

from django.db import migrations, models

from holdfast.ext.django.operations import CreateViews, MigrateStore


class Migration(migrations.Migration):
    """Makes the log and the entities; the models are of views, and make nothing."""

    initial = True
    dependencies = []
    operations = [
        MigrateStore(1),
        CreateViews(),
        migrations.CreateModel(
            name="Entity",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "machine",
                        "entity_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("machine", models.TextField()),
                ("entity_id", models.TextField(verbose_name="id")),
                ("version", models.BigIntegerField()),
                ("state", models.TextField(null=True)),
                ("created_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "verbose_name_plural": "entities",
                "db_table": "holdfast_entity",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Transition",
            fields=[
                ("seq", models.BigIntegerField(primary_key=True, serialize=False)),
                ("machine", models.TextField()),
                ("entity_id", models.TextField(verbose_name="id")),
                ("version", models.BigIntegerField()),
                ("kind", models.TextField()),
                ("from_state", models.TextField(null=True, verbose_name="from")),
                ("to_state", models.TextField(null=True, verbose_name="to")),
                ("command_type", models.TextField(null=True, verbose_name="command")),
                ("metadata", models.JSONField(null=True)),
                ("key", models.TextField(null=True)),
                ("at", models.DateTimeField()),
                ("recorded_at", models.DateTimeField()),
            ],
            options={
                "db_table": "holdfast_transition",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
