"""Which view has which path."""

from django.urls import path

from gallery import views

urlpatterns = [
    path("", views.index, name="index"),
    path("upload", views.upload, name="upload"),
    path("export", views.export, name="export"),
]
